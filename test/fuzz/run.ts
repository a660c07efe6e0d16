/**
 * Fuzzes the code that reads input from outside: `node test/fuzz/run.ts [--target NAME] [--cases N] [--seed N]`. By default it
 * runs all targets. The n-th case has the seed `--seed` + n, and a failure prints the command that repeats that case.
 */
import { parseArgs } from "node:util";
import { FuzzFailure } from "./target.ts";
import { FUZZ_TARGETS } from "./targets.ts";

/** Number of cases between progress messages. */
const CHUNK = 20_000;

const { values } = parseArgs({
  options: {
    target: { type: "string" },
    cases: { type: "string", default: "1000000" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 1e9)) },
  },
});
const cases = Number(values.cases);
const seed = Number(values.seed);
const targets = FUZZ_TARGETS.filter(({ name }) => values.target === undefined || name === values.target);
if (targets.length === 0) {
  process.stderr.write(
    `there is no target "${values.target}"; targets: ${FUZZ_TARGETS.map(({ name }) => name).join(", ")}\n`,
  );
  process.exitCode = 2;
}
for (const target of targets) {
  const begun = performance.now();
  try {
    for (let done = 0; done < cases; done += CHUNK) {
      if (done > 0) process.stderr.write(`${target.name}: ${done} cases\n`);
      await target.run(seed + done, Math.min(CHUNK, cases - done));
    }
    const seconds = ((performance.now() - begun) / 1000).toFixed(0);
    process.stdout.write(`${target.name}: ${cases} cases from seed ${seed}, ${seconds} s, no failure\n`);
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    process.stderr.write(`${target.name}: ${error.message}\n`);
    process.exitCode = 1;
  }
}
