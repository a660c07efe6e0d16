/**
 * Runs the tests: `unit` (beside their files, simulation, architecture, docs) or `system` (integration, fault and e2e:
 * real processes and the real executable). Prints what the test runner prints and leaves with its code.
 */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";

const PATTERNS: Readonly<Record<string, readonly string[]>> = {
  unit: ["src/**/*.test.ts", "cmd/**/*.test.ts", "bench/**/*.test.ts", "test/simulation/*.test.ts", "test/*.test.ts"],
  system: ["test/integration/*.test.ts", "test/fault/*.test.ts", "test/e2e/*.test.ts"],
};

const kind = process.argv[2] ?? "";
const files = (PATTERNS[kind] ?? []).flatMap((pattern) => globSync(pattern)).sort();
if (files.length === 0) {
  process.stderr.write("usage: scripts/test.ts unit|system\n");
  process.exit(2);
}
const concurrency = kind === "system" ? ["--test-concurrency=2"] : [];
const flags = ["--no-warnings", "--test", "--test-timeout=180000", "--test-reporter=spec", ...concurrency];
const { status } = spawnSync(process.execPath, [...flags, ...files], { stdio: "inherit" });
process.exit(status ?? 1);
