/**
 * Fuzzes what takes input from outside: `node test/fuzz/run.ts [--target NAME] [--cases N] [--seed N]`. Without a target all of
 * them. The n-th case has the seed `--seed` + n, and a failure says how to run that case alone.
 */
import { parseArgs } from "node:util";
import { FuzzFailure } from "./target.ts";
import { FUZZ_TARGETS } from "./targets.ts";

const { values } = parseArgs({
  options: {
    target: { type: "string" },
    cases: { type: "string", default: "1000000" },
    seed: { type: "string", default: String(Math.floor(Math.random() * 1e9)) },
  },
});
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
    await target.run(Number(values.seed), Number(values.cases));
    const seconds = ((performance.now() - begun) / 1000).toFixed(0);
    process.stdout.write(`${target.name}: ${values.cases} cases from seed ${values.seed}, ${seconds} s, no failure\n`);
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    process.stderr.write(`${target.name}: ${error.message}\n`);
    process.exitCode = 1;
  }
}
