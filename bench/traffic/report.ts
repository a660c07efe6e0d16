/** Converts traffic measurements to bench/results/traffic.json, docs/benchmarks-traffic.md and pictures. */

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { median } from "../measure.ts";
import { formatMachine, formatNumber, type Results } from "../report.ts";
import type { Figure, Found } from "./figures.ts";
import { drawBars, drawDistributions } from "./svg.ts";
import type { System } from "./systems.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const RESULTS = join(ROOT, "bench", "results", "traffic.json");

/** All rounds by figure and system. */
export type Rounds = Readonly<Record<string, Readonly<Record<string, readonly Found[]>>>>;

export interface TrafficResults extends Pick<Results, "date" | "commit" | "machine" | "quick" | "problems"> {
  readonly rounds: Rounds;
}

/** The last results; undefined if there are none. */
export function readTrafficResults(): TrafficResults | undefined {
  try {
    return JSON.parse(readFileSync(RESULTS, "utf8")) as TrafficResults;
  } catch {
    return undefined;
  }
}

/** The median of a column over the rounds; undefined if it was not measured. */
export function medianOf(rounds: Rounds, figure: string, system: string, column: string): number | undefined {
  const values = (rounds[figure]?.[system] ?? []).map(({ numbers }) => numbers[column]);
  return median(values.filter((value) => value !== undefined));
}

/** Writes results, page and pictures. Returns their paths relative to the project. */
export function writeTrafficResults(
  results: TrafficResults,
  figures: readonly Figure[],
  systems: readonly System[],
): string[] {
  const files: Record<string, string> = {
    "bench/results/traffic.json": `${JSON.stringify({ ...results, rounds: compact(results.rounds) })}\n`,
    "docs/benchmarks-traffic.md": formatTraffic(results, figures, systems),
    ...drawPictures(results.rounds, systems),
  };
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(ROOT, path, ".."), { recursive: true });
    writeFileSync(join(ROOT, path), content);
  }
  return Object.keys(files);
}

/** The page of results. */
export function formatTraffic(results: TrafficResults, figures: readonly Figure[], systems: readonly System[]): string {
  const lines = [
    "# Benchmarks of traffic",
    "",
    "Written by `make bench-traffic` (`bench/traffic.ts`). Each mode has the same workers and the same load, in the same run",
    "and on the same machine, which also runs the load client. Values are medians of the rounds.",
    "",
    `- Date: ${results.date} UTC, commit ${results.commit}${results.quick ? " (quick run: fewer rounds, shorter)" : ""}`,
    `- Machine: ${formatMachine(results.machine)}`,
    "",
    ...figures.flatMap((figure) => formatFigure(results.rounds, figure, systems)),
    "How it is measured:",
    "",
    "- *Blocking* workers handle one request at a time and use no CPU meanwhile, like a synchronous server that waits for its",
    "  database. The number of processors therefore does not matter.",
    "- *Failed* counts all requests that were not answered with 2xx or 3xx: refused, reset, closed, truncated, timed out, 5xx.",
    "  The client never retries. Half of the connections are kept alive, the others are used for one request.",
    "- *Replacements* are requested by `monoceros restart`, `pm2 reload` and SIGHUP to gunicorn.",
    "- A dash means not measured.",
    "",
  ];
  if (results.problems.length > 0) lines.push("Problems:", "", ...results.problems.map((text) => `- ${text}`), "");
  return lines.join("\n");
}

function formatFigure(rounds: Rounds, figure: Figure, systems: readonly System[]): string[] {
  const rows = systems.filter(({ name }) => figure.systems.includes(name));
  const lines = [
    `## ${figure.title.charAt(0).toUpperCase()}${figure.title.slice(1)}`,
    "",
    `| | ${figure.columns.map(({ title, unit }) => (unit === "" || unit === "/s" ? title : `${title} (${unit})`)).join(" | ")} |`,
    `|---|${figure.columns.map(() => "---:|").join("")}`,
    ...rows.map(({ name, title }) => {
      const cells = figure.columns.map(({ key }) => {
        const value = medianOf(rounds, figure.name, name, key);
        return value === undefined ? "–" : formatNumber(value);
      });
      return `| ${title} | ${cells.join(" | ")} |`;
    }),
    "",
  ];
  for (const { text, isReached } of figure.goals) {
    const verdict = isReached((system, column) => medianOf(rounds, figure.name, system, column));
    lines.push(`- ${verdict === undefined ? "not measured" : verdict ? "reached" : "**not reached**"}: ${text}`);
  }
  if (figure.goals.length > 0) lines.push("");
  return lines;
}

/** Pictures of the measured figures, by path. */
export function drawPictures(rounds: Rounds, systems: readonly System[]): Record<string, string> {
  const files: Record<string, string> = {};
  const titleOf = (title: string): string => title.replace("Monoceros, ", "");
  const found = (figure: string, name: string): Found | undefined => middleRound(rounds[figure]?.[name] ?? []);

  const panels = systems.flatMap(({ name, title }) => {
    const values = found("balance", name)?.shares;
    const idle = medianOf(rounds, "balance", name, "idle") ?? 0;
    const rps = Math.round(medianOf(rounds, "balance", name, "rps") ?? 0);
    const idleText = idle === 0 ? "none idle" : `${Math.round(idle)} idle`;
    return values === undefined
      ? []
      : [{ title: titleOf(title), note: `${rps}/s, ${idleText}`, values: inPercent(values) }];
  });
  if (panels.length > 0) {
    files["docs/images/traffic-load.svg"] = drawBars(
      "Load of each of 8 workers in % of the mean: 5 ms per request, 16 connections",
      panels,
      { value: 100, label: "the mean: load of each worker if all have the same" },
    );
  }
  for (const [figure, file, title] of [
    [
      "balance",
      "traffic-latency.svg",
      "Share of requests by response time: 8 workers, 5 ms per request, 16 connections",
    ],
    [
      "mixed",
      "traffic-mixed.svg",
      "Fast requests (5 ms) while 5 % of all requests take 200 ms: 8 workers, 8 connections",
    ],
  ] as const) {
    const curves = systems.flatMap(({ name, title: systemTitle }) => {
      const perMille = found(figure, name)?.perMille;
      return perMille === undefined ? [] : [{ title: titleOf(systemTitle), perMille }];
    });
    if (curves.length > 0) files[`docs/images/${file}`] = drawDistributions(title, curves);
  }
  return files;
}

/** Keeps only the distributions that are drawn, rounded to microseconds, because they are most of the file. */
function compact(rounds: Rounds): Rounds {
  const ofSystem = (all: readonly Found[]): Found[] => {
    const middle = middleRound(all);
    return all.map((found) => {
      const { perMille, ...rest } = found;
      if (perMille === undefined || found !== middle) return rest;
      return { ...rest, perMille: perMille.map((ms) => Math.round(ms * 1000) / 1000) };
    });
  };
  return Object.fromEntries(
    Object.entries(rounds).map(([figure, bySystem]) => [
      figure,
      Object.fromEntries(Object.entries(bySystem).map(([system, all]) => [system, ofSystem(all)])),
    ]),
  );
}

/** The round with the median throughput, so that a picture shows a real run and not a mean. */
function middleRound(rounds: readonly Found[]): Found | undefined {
  const sorted = [...rounds].sort((a, b) => (a.numbers["rps"] ?? 0) - (b.numbers["rps"] ?? 0));
  return sorted[Math.floor(sorted.length / 2)];
}

function inPercent(shares: readonly number[]): number[] {
  const mean = shares.reduce((total, share) => total + share, 0) / shares.length;
  return shares.map((share) => (mean === 0 ? 0 : (share / mean) * 100));
}
