/**
 * Runs chaos with one seed after another until two hours have passed without a broken promise: `node test/chaos/soak.ts FILE`.
 * Each run adds a line of JSON to the file, and a soak that is started again continues with the next seed. Stops at the
 * first broken promise.
 */

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { JUDGED_MINUTES, LIMITS, slopeOf, WARM_UP_MINUTES } from "./footprint.ts";
import type { RunResult } from "./run.ts";

const REQUIRED_MINUTES = 120;
/** Long enough to find leaks. */
const RUN_MINUTES = 30;
const FIRST_SEED = 1;

/** Sums of the figures over all runs; maxima for those named longest. */
function totalsOf(results: readonly RunResult[]): Readonly<Record<string, number>> {
  const totals: Record<string, number> = {};
  for (const { minutes, actions, figures } of results)
    for (const [name, value] of Object.entries({ minutes, actions, ...figures }))
      if (typeof value === "number")
        totals[name] = name.startsWith("longest") ? Math.max(totals[name] ?? 0, value) : (totals[name] ?? 0) + value;
  return totals;
}

function readResults(file: string): RunResult[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.filter((line) => line !== "").map((line) => JSON.parse(line) as RunResult);
}

/** Fails if the memory of all lives together grows: a single life is too short to tell. */
function judgeGrowth(results: readonly RunResult[]): void {
  const lives = results.flatMap(({ figures }) => figures.growths.filter(({ minutes }) => minutes >= JUDGED_MINUTES));
  const rssKiB = slopeOf(
    lives.map(({ rssKiBByMinute }) =>
      rssKiBByMinute.map((value, minute) => [minute, value] as const).slice(WARM_UP_MINUTES),
    ),
  );
  const { estimate, low, high } = rssKiB;
  process.stdout.write(
    `memory over ${lives.length} lives: ${estimate.toFixed(1)} KiB a minute (95 %: ${low.toFixed(1)} to ${high.toFixed(1)})\n`,
  );
  if (low > LIMITS.rssKiB) process.exitCode = 1;
}

const file = process.argv[2] ?? "dist/soak.jsonl";
for (;;) {
  const results = readResults(file);
  const good = results.filter(({ ok }) => ok);
  const totals = totalsOf(good);
  process.stdout.write(`${file}: ${good.length} of ${results.length} runs good, ${JSON.stringify(totals)}\n`);
  if ((totals["minutes"] ?? 0) >= REQUIRED_MINUTES) {
    judgeGrowth(good);
    break;
  }
  const seed = Math.max(FIRST_SEED - 1, ...results.map((each) => each.seed)) + 1;
  const args = [resolve(import.meta.dirname, "run.ts"), "--minutes", String(RUN_MINUTES), "--seed", String(seed)];
  const { status } = spawnSync(process.execPath, ["--no-warnings", ...args, "--totals", file], { stdio: "inherit" });
  if (status !== 0) {
    process.exitCode = 1;
    break;
  }
}
