/**
 * Benchmarks of the traffic modes: `node bench/traffic.ts [--quick] [--only FIGURE]… [--system NAME]… [--update]`.
 * Prints all medians. A complete run writes bench/results/traffic.json, docs/benchmarks-traffic.md and the pictures in
 * docs/images/. With `--update` the measured figures replace those of the last results. A system that is missing or does
 * not start is reported, and the others are measured.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { installPeers } from "./peers.ts";
import { describeRun, formatNumber } from "./report.ts";
import { FIGURES, type Figure, type Found } from "./traffic/figures.ts";
import { medianOf, type Rounds, readTrafficResults, writeTrafficResults } from "./traffic/report.ts";
import { SYSTEMS, type System } from "./traffic/systems.ts";

type Collected = Record<string, Record<string, Found[]>>;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      only: { type: "string", multiple: true },
      system: { type: "string", multiple: true },
      update: { type: "boolean", default: false },
    },
  });
  const figures = FIGURES.filter(({ name }) => values.only?.includes(name) ?? true);
  const systems = SYSTEMS.filter(({ name }) => values.system?.includes(name) ?? true);
  if (figures.length === 0 || systems.length === 0) {
    console.error(`figures: ${FIGURES.map(({ name }) => name)}; systems: ${SYSTEMS.map(({ name }) => name)}`);
    process.exitCode = 2;
    return;
  }
  if (systems.some(({ name }) => name === "pm2") && figures.some((figure) => figure.systems.includes("pm2")))
    installPeers();
  const problems: string[] = [];
  const able = systems.filter(({ name, missing }) => {
    const reason = missing();
    if (reason !== undefined) problems.push(`${name}: ${reason}`);
    return reason === undefined;
  });
  const collected: Collected = {};
  for (const figure of figures) await measureFigure(figure, able, values.quick, collected, problems);
  for (const problem of problems) console.error(problem);

  const isWhole = values.only === undefined && values.system === undefined;
  if (isWhole || values.update) {
    const rounds = isWhole ? collected : merge(readTrafficResults()?.rounds ?? {}, collected);
    const results = { ...describeRun(), quick: values.quick, problems, rounds };
    console.log(`written: ${writeTrafficResults(results, FIGURES, SYSTEMS).join(", ")}`);
  }
  if (problems.length > 0) process.exitCode = 1;
}

/** Measures with interleaved rounds, so that other load on the machine affects all systems. */
async function measureFigure(
  figure: Figure,
  able: readonly System[],
  quick: boolean,
  collected: Collected,
  problems: string[],
): Promise<void> {
  const bySystem: Record<string, Found[]> = {};
  collected[figure.name] = bySystem;
  let systems = able.filter(({ name }) => figure.systems.includes(name));
  console.log(`${figure.name}: ${figure.title}`);
  for (let round = 0; round < (quick ? 1 : figure.rounds); round++) {
    for (const system of systems) {
      try {
        const found = await measureOnce(figure, system, quick);
        bySystem[system.name] = [...(bySystem[system.name] ?? []), found];
      } catch (error) {
        problems.push(`${figure.name}, ${system.name}: ${error instanceof Error ? error.message : String(error)}`);
        // Do not try this system again.
        systems = systems.filter((each) => each !== system);
      }
    }
  }
  for (const { name } of SYSTEMS.filter((each) => bySystem[each.name] !== undefined)) {
    const cells = figure.columns.map(({ key, title, unit }) => {
      const value = medianOf(collected, figure.name, name, key);
      return `${title} ${value === undefined ? "–" : `${formatNumber(value)} ${unit}`.trim()}`;
    });
    console.log(`  ${name}: ${cells.join(" · ")}`);
  }
}

async function measureOnce(figure: Figure, system: System, quick: boolean): Promise<Found> {
  const dir = mkdtempSync(join(tmpdir(), "m-"));
  try {
    const running = await system.start({ dir, ...figure.workload({ quick }) });
    try {
      return await figure.measure(running, { quick });
    } finally {
      running.stop();
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function merge(last: Rounds, now: Collected): Rounds {
  const figures = new Set([...Object.keys(last), ...Object.keys(now)]);
  return Object.fromEntries([...figures].map((name) => [name, { ...last[name], ...now[name] }]));
}

for (const [signal, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)
  process.once(signal, () => process.exit(code));
await main();
