/** Visits every state of the small pools, and a million states or 90 s of the larger one: `node test/simulation/exploreAll.ts`. */
import { explore, LARGER_POOL, SMALL_POOLS } from "./explore.ts";

for (const [name, spec] of Object.entries(SMALL_POOLS)) report(name, explore(spec, {}));
report("two replicas, a successor and a standby worker", explore(LARGER_POOL, { maxStates: 1_000_000, maxMs: 90_000 }));

function report(
  name: string,
  { states, transitions, isClosed, longestContinuation }: ReturnType<typeof explore>,
): void {
  const coverage = isClosed ? "all states visited" : "more states exist";
  const figures = `${states} states, ${transitions} transitions, ${longestContinuation} moves at most until it stops`;
  process.stdout.write(`${name}: ${figures}; ${coverage}\n`);
}
