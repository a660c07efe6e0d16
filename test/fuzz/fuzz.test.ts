/** A bounded run of every fuzz target; `make fuzz` runs a million cases of each. */
import { test } from "node:test";
import { HAS_ORACLE } from "./prometheusOracle.ts";
import { FUZZ_TARGETS } from "./targets.ts";

const CASES = 1500;

for (const { name, run } of FUZZ_TARGETS)
  test(`${CASES} random inputs of ${name} break no promise`, async (context) => {
    const seed = Number(process.env["FUZZ_SEED"] ?? 1);
    context.diagnostic(`FUZZ_SEED=${seed}`);
    await run(seed, CASES);
  });

test("the Prometheus parser and merger are compared with prometheus_client", {
  skip: HAS_ORACLE ? false : "the Python packages could not be installed",
}, () => {});
