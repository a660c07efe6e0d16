/**
 * Measures the log path: annotation alone, and the complete path of a line from `cat` through a pipe, source and sink to a
 * reader. Prints megabytes of input per second. Usage: node bench/logs.ts [lines]
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LineAnnotator } from "../src/logs/annotate.ts";
import { Outlet } from "../src/logs/outlet.ts";
import { OutputBuffer } from "../src/logs/outputBuffer.ts";
import { ReadTurns } from "../src/logs/readTurns.ts";
import { LogSink } from "../src/logs/sink.ts";
import { LogSource } from "../src/logs/source.ts";

const LINES = Number(process.argv[2] ?? 1_000_000);
const CHUNK_BYTES = 64 * 1024;
const directory = mkdtempSync(join(tmpdir(), "monoceros-bench-"));

/** A JSON line of a request log, 159 bytes including the newline. */
function jsonLine(index: number): string {
  const line = JSON.stringify({
    level: "info",
    ts: 1_700_000_000.123 + index,
    msg: "request handled",
    method: "GET",
    path: `/api/v1/users/${1000 + (index % 9000)}`,
    status: 200,
    dur_ms: (index * 37) % 900,
  });
  return `${line.slice(0, -1)},"pad":"${"x".repeat(158 - line.length - 9)}"}\n`;
}

/** A text line of 94 bytes including the newline. */
function textLine(index: number): string {
  return `${`2026-01-01T00:00:00.000Z INFO request ${index} GET /api/v1/users/${index % 9000} done`.padEnd(93, ".")}\n`;
}

/** Writes LINES lines and returns the path of the file. */
function generate(name: string, line: (index: number) => string): string {
  const path = join(directory, name);
  const fd = openSync(path, "w");
  for (let index = 0; index < LINES; ) {
    let block = "";
    for (const end = Math.min(LINES, index + 10_000); index < end; index++) block += line(index);
    writeSync(fd, block);
  }
  closeSync(fd);
  return path;
}

function annotator(slot: number): LineAnnotator {
  return new LineAnnotator({ pool: "web", workerId: `web-${slot}`, stream: "stdout", maxLineBytes: 1024 * 1024 });
}

function annotateOnly(path: string): number {
  const content = readFileSync(path);
  const out = new OutputBuffer();
  const lines = annotator(0);
  const startedAt = performance.now();
  for (let at = 0; at < content.length; at += CHUNK_BYTES) {
    lines.push(content.subarray(at, at + CHUNK_BYTES), Date.now(), out);
    out.clear(Number.POSITIVE_INFINITY);
  }
  return content.length / 1e3 / (performance.now() - startedAt);
}

interface PathResult {
  readonly mbPerSecond: number;
  /** The longest time in which the event loop was blocked. */
  readonly stallMs: number;
  readonly linesOut: number;
}

/** Sends the file through several workers at once, to a pipe read by `readerCommand`, or to /dev/null without one. */
async function measurePath(path: string, workerCount: number, readerCommand: string | undefined): Promise<PathResult> {
  const outPath = join(directory, "out.fifo");
  const inPaths = Array.from({ length: workerCount }, (_, slot) => join(directory, `in${slot}.fifo`));
  spawnSync("mkfifo", [outPath, ...inPaths]);
  const script = readerCommand === undefined ? ":" : `${readerCommand} < "${outPath}"`;
  const reader = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
  const outFd = openSync(readerCommand === undefined ? "/dev/null" : outPath, constants.O_WRONLY);
  const sink = new LogSink({ fd: outFd });
  const turns = new ReadTurns();
  let lastTick = performance.now();
  let stallMs = 0;
  const ticker = setInterval(() => {
    stallMs = Math.max(stallMs, performance.now() - lastTick - 1);
    lastTick = performance.now();
  }, 1);
  let inputBytes = 0;
  let running = 0;
  const startedAt = performance.now();
  await Promise.all(
    inPaths.map(async (inPath, slot) => {
      const fd = openSync(inPath, constants.O_RDONLY | constants.O_NONBLOCK);
      const worker = spawn("sh", ["-c", `exec cat "${path}" > "${inPath}"`], { stdio: "ignore" });
      await once(worker, "spawn");
      // A second writer, so that the pipe is not at its end before cat has opened it.
      const holderFd = openSync(inPath, constants.O_WRONLY);
      const lines = annotator(slot);
      const { promise, resolve } = Promise.withResolvers<void>();
      new LogSource({ fd, annotator: lines, sink: new Outlet(sink), turns, onEnd: resolve }).start();
      // Starting a process also stalls this thread, which must not be measured.
      if (++running === workerCount) [stallMs, lastTick] = [0, performance.now()];
      await once(worker, "exit");
      closeSync(holderFd);
      await promise;
      inputBytes += lines.bytesIn;
    }),
  );
  await sink.flush();
  const elapsedMs = performance.now() - startedAt;
  clearInterval(ticker);
  closeSync(outFd);
  let answer = "";
  for await (const chunk of reader.stdout) answer += chunk;
  for (const used of [outPath, ...inPaths]) rmSync(used);
  return { mbPerSecond: inputBytes / 1e3 / elapsedMs, stallMs, linesOut: Number(answer) };
}

try {
  const files = { json: generate("json.log", jsonLine), text: generate("text.log", textLine) };
  console.log(`${"path".padEnd(44)}MB/s in   longest stall   lines out`);
  for (const [kind, path] of Object.entries(files)) {
    annotateOnly(path);
    console.log(`${`${kind}: annotation only`.padEnd(44)}${annotateOnly(path).toFixed(0).padStart(7)}`);
    for (const workerCount of [1, 4]) {
      for (const reader of [undefined, "cat > /dev/null", "wc -l"]) {
        const result = await measurePath(path, workerCount, reader);
        const name = `${kind}: ${workerCount} worker${workerCount > 1 ? "s" : ""} → ${reader === undefined ? "/dev/null" : `| ${reader}`}`;
        const figures = `${result.mbPerSecond.toFixed(0).padStart(7)}${`${result.stallMs.toFixed(1)} ms`.padStart(16)}`;
        console.log(`${name.padEnd(44)}${figures}${String(result.linesOut || "").padStart(12)}`);
      }
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}
