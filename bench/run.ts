/**
 * Comparison with peers: `node bench/run.ts [--quick] [--figure NAME]…`. Installs missing peers into bench/peers/, measures,
 * and prints all medians. A run of all figures writes bench/results/latest.json and docs/benchmarks.md. With `--update` the
 * named figures replace those of the last full run. Peers that cannot be installed are reported as missing.
 * `--baseline EXECUTABLE` compares with an earlier build instead of the peers.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { FIGURES, type Figure } from "./figures.ts";
import { median } from "./measure.ts";
import { installPeers, monocerosAt, PEERS, type Peer } from "./peers.ts";
import { describeRun, formatNumber, readResults, writeResults } from "./report.ts";

type Readings = Record<string, Record<string, number[]>>;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      figure: { type: "string", multiple: true },
      peer: { type: "string", multiple: true },
      update: { type: "boolean", default: false },
      baseline: { type: "string" },
    },
  });
  const figures = FIGURES.filter((figure) => values.figure?.includes(figure.name) ?? true);
  if (figures.length === 0) {
    console.error(`unknown figure; figures: ${FIGURES.map((figure) => figure.name).join(", ")}`);
    process.exitCode = 2;
    return;
  }
  const { baseline } = values;
  if (baseline === undefined) installPeers();
  const peers = baseline === undefined ? PEERS : [...PEERS.slice(0, 1), monocerosAt(resolve(baseline), "baseline")];
  const versions = Object.fromEntries(peers.map((peer) => [peer.name, peer.version() ?? null]));
  const present = peers.filter((peer) => versions[peer.name] !== null && (values.peer?.includes(peer.name) ?? true));
  for (const [name, version] of Object.entries(versions)) console.log(`${name}: ${version ?? "missing"}`);

  const readings: Readings = {};
  const problems: string[] = [];
  for (const figure of figures) await measureFigure(figure, present, values.quick, readings, problems);

  const isWhole = values.figure === undefined && values.peer === undefined && baseline === undefined;
  if (isWhole || (values.update && baseline === undefined)) {
    const all = isWhole ? readings : { ...readResults().readings, ...readings };
    const results = { ...describeRun(), quick: values.quick, peers: versions, readings: all, problems };
    writeResults(
      results,
      FIGURES.flatMap((figure) => figure.rows),
    );
    console.log("written: bench/results/latest.json, docs/benchmarks.md");
  }
  if (problems.length > 0) process.exitCode = 1;
}

async function measureFigure(
  figure: Figure,
  peers: readonly Peer[],
  quick: boolean,
  readings: Readings,
  problems: string[],
): Promise<void> {
  for (let round = 0; round < (quick ? 1 : figure.rounds); round++) {
    for (const peer of peers) {
      const dir = mkdtempSync(join(tmpdir(), "monoceros-bench-"));
      try {
        const found = await figure.measure(peer, { dir, quick, round });
        for (const [key, value] of Object.entries(found)) {
          const byPeer = readings[key] ?? {};
          readings[key] = byPeer;
          if (value !== undefined) byPeer[peer.name] = [...(byPeer[peer.name] ?? []), value];
        }
      } catch (error) {
        problems.push(`${figure.name}, ${peer.name}: ${error instanceof Error ? error.message : String(error)}`);
      } finally {
        rmSync(dir, { recursive: true, force: true });
      }
    }
  }
  for (const row of figure.rows) {
    const cells = peers.map((peer) => {
      const middle = median(readings[row.key]?.[peer.name] ?? []);
      return `${peer.name} ${middle === undefined ? "–" : `${formatNumber(middle)} ${row.unit}`.trim()}`;
    });
    console.log(`${row.key}: ${cells.join(" · ")}`);
  }
  for (const problem of problems.filter((text) => text.startsWith(`${figure.name},`))) console.error(problem);
}

await main();
