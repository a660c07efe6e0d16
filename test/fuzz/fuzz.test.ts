/** A bounded run of each fuzz target. `make fuzz` runs a million cases of each. */
import { test } from "node:test";
import { HAS_ORACLE } from "./prometheusOracle.ts";
import { FUZZ_TARGETS } from "./targets.ts";

const CASES = 1500;

for (const { name, run } of FUZZ_TARGETS)
  test(`fuzz target ${name} accepts ${CASES} random inputs without a failure`, async (context) => {
    const seed = Number(process.env["FUZZ_SEED"] ?? 1);
    context.diagnostic(`FUZZ_SEED=${seed}`);
    await run(seed, CASES);
  });

if (!HAS_ORACLE)
  test("fuzz targets prometheusParser and prometheusMerger", { skip: "the Python packages could not be installed" });
