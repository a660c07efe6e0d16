/** Turns readings into medians, bench/results/latest.json and docs/benchmarks.md. */

import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join } from "node:path";
import type { Row } from "./figures.ts";
import { median } from "./measure.ts";

const ROOT = join(import.meta.dirname, "..");

/** The results of one run. */
export interface Results {
  readonly date: string;
  readonly quick: boolean;
  readonly commit: string;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryGb: number;
    readonly kernel: string;
    /** Duration of an empty Node.js program after the run, which shows the speed and load of the machine. */
    readonly bareNodeMs?: number;
  };
  /** Version by peer; null if it was missing. */
  readonly peers: Readonly<Record<string, string | null>>;
  /** All readings by row key and peer, in the order of measurement. */
  readonly readings: Readonly<Record<string, Readonly<Record<string, readonly number[]>>>>;
  /** Descriptions of failed measurements. */
  readonly problems: readonly string[];
}

/** The machine and checkout of this run. */
export function describeRun(): Pick<Results, "date" | "commit" | "machine"> {
  const processors = cpus();
  const git = spawnSync("git", ["rev-parse", "--short", "HEAD"], { cwd: ROOT, encoding: "utf8" });
  return {
    date: new Date().toISOString().slice(0, 16).replace("T", " "),
    commit: git.status === 0 ? git.stdout.trim() : "unknown",
    machine: {
      cpu: processors[0]?.model ?? "unknown",
      cores: processors.length,
      memoryGb: Math.round(totalmem() / 1e9),
      kernel: release(),
      bareNodeMs: Math.round(bareNodeMs()),
    },
  };
}

/** Median of eleven starts. */
function bareNodeMs(): number {
  const runs = Array.from({ length: 11 }, () => {
    const startedAt = performance.now();
    spawnSync(process.execPath, ["-e", "0"]);
    return performance.now() - startedAt;
  });
  return median(runs) ?? Number.NaN;
}

/** One line about the machine and its speed. The goals were set on a machine where an empty program took 26 ms. */
export function formatMachine({ cpu, cores, memoryGb, kernel, bareNodeMs: bare }: Results["machine"]): string {
  const speed =
    bare === undefined
      ? ""
      : `; an empty Node.js program takes ${bare} ms (26 ms on the machine where the goals were set)`;
  return `${cpu}, ${cores} cores, ${memoryGb} GB, Linux ${kernel}${speed}`;
}

/** The results of the last full run. @throws Error if there was none */
export function readResults(): Results {
  return JSON.parse(readFileSync(join(import.meta.dirname, "results", "latest.json"), "utf8")) as Results;
}

/** Writes both files. */
export function writeResults(results: Results, rows: readonly Row[]): void {
  mkdirSync(join(import.meta.dirname, "results"), { recursive: true });
  mkdirSync(join(ROOT, "docs"), { recursive: true });
  writeFileSync(join(import.meta.dirname, "results", "latest.json"), `${JSON.stringify(results, undefined, 2)}\n`);
  writeFileSync(join(ROOT, "docs", "benchmarks.md"), formatMarkdown(results, rows));
}

/** The page of results. */
export function formatMarkdown(results: Results, rows: readonly Row[]): string {
  const names = Object.keys(results.peers);
  const lines = [
    "# Benchmarks",
    "",
    "Written by `node bench/run.ts`. All programs do the same work on the same machine in the same run, with interleaved",
    "rounds. Values are medians; the factor in brackets says how many times better Monoceros is.",
    "",
    `- Date: ${results.date} UTC, commit ${results.commit}${results.quick ? " (quick run: fewer rounds, smaller input)" : ""}`,
    `- Machine: ${formatMachine(results.machine)}`,
    `- Programs: ${names.map((name) => `${name} ${results.peers[name] ?? "(missing)"}`).join(", ")}`,
    "",
    `| Figure | Goal | ${names.join(" | ")} |`,
    `|---|---|${names.map(() => "---:|").join("")}`,
    ...rows.map((row) => formatRow(results, row, names)),
    "",
    "How it is measured:",
    "",
    "- *Logs*: one worker runs `cat` on a prepared file, and the time ends when the last line is in the output file. For",
    "  Monoceros each line of the first round is parsed and compared with its input. Peers copy lines without annotation.",
    "- *Runs*: the new process is a child of the controller and has executed its command, according to /proc. Each worker",
    "  is killed only once, so that backoff has no effect.",
    "- *CPU* is the scheduler's count and *memory* the private dirty pages after `sync`, both of the controller and its own",
    "  helper processes, without workers. *Idle* is the ten seconds after 12 s without a change.",
    "- A dash means that the program has no such feature, or did not finish before the deadline.",
    "",
  ];
  if (results.problems.length > 0) lines.push("Problems:", "", ...results.problems.map((text) => `- ${text}`), "");
  return lines.join("\n");
}

function formatRow(results: Results, row: Row, names: readonly string[]): string {
  const middleOf = (name: string): number | undefined => median(results.readings[row.key]?.[name] ?? []);
  const ours = middleOf("monoceros");
  const cells = names.map((name) => {
    const value = middleOf(name);
    if (value === undefined) return "–";
    const text = `${formatNumber(value)} ${row.unit}`.trim();
    if (name === "monoceros") return `**${text}**${verdict(results, row, value)}`;
    if (ours === undefined || ours === 0 || value === 0 || row.unit === "") return text;
    return `${text} (${formatNumber(row.better === "lower" ? value / ours : ours / value)}×)`;
  });
  return `| ${row.title} | ${formatGoal(row)} | ${cells.join(" | ")} |`;
}

function formatGoal(row: Row): string {
  if (row.sameAs !== undefined) return "same";
  if (row.goal === undefined) return "";
  return `${row.better === "lower" ? "≤" : "≥"} ${row.goal} ${row.unit}`.trim();
}

/** A mark if the goal is missed. */
function verdict(results: Results, row: Row, value: number): string {
  // "Same" tolerates the variation of memory measurements; descriptors are compared exactly.
  const reference = row.sameAs === undefined ? undefined : median(results.readings[row.sameAs]?.["monoceros"] ?? []);
  const goal = reference === undefined ? row.goal : row.unit === "MB" ? reference + 1 : reference;
  if (goal === undefined) return "";
  return (row.better === "lower" ? value <= goal : value >= goal) ? "" : " ✗";
}

/** At most three significant digits, and thousands separated by commas. */
export function formatNumber(value: number): string {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(3)));
}
