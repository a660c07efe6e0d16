/** The whole log path with real processes, pipes and files. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { LineAnnotator } from "./annotate.ts";
import { SinkLogger } from "./logger.ts";
import { ReadTurns } from "./readTurns.ts";
import { LogSink, openSinks } from "./sink.ts";
import { LogSource } from "./source.ts";

interface Worker {
  readonly source: LogSource;
  readonly annotator: LineAnnotator;
  readonly ended: Promise<void>;
  readonly process: ChildProcess;
  readonly exited: Promise<unknown>;
}

describe("log path", () => {
  let directory: string;
  let fds: number[];
  let processes: ChildProcess[];
  let turns: ReadTurns;
  let pipes: number;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "monoceros-logs-"));
    fds = [];
    processes = [];
    turns = new ReadTurns();
    pipes = 0;
  });

  afterEach(() => {
    for (const child of processes) if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    for (const fd of fds) closeSync(fd);
    rmSync(directory, { recursive: true });
  });

  function open(path: string, flags: number | string): number {
    const fd = openSync(path, flags);
    fds.push(fd);
    return fd;
  }

  /** A pipe with a name. Its read end is open and not blocking. */
  function newPipe(): { path: string; readFd: number } {
    const path = join(directory, `pipe${pipes++}`);
    execFileSync("mkfifo", [path]);
    return { path, readFd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK) };
  }

  /** Runs a shell script whose standard output is a worker's stdout. */
  function newWorker(script: string, sink: LogSink, options: { slot?: number; args?: string[] } = {}): Worker {
    const { path, readFd } = newPipe();
    const writeFd = openSync(path, constants.O_WRONLY);
    const child = spawn("sh", ["-c", script, "sh", ...(options.args ?? [])], { stdio: ["ignore", writeFd, "inherit"] });
    closeSync(writeFd);
    processes.push(child);
    const annotator = new LineAnnotator({
      pool: "web",
      workerId: `web-${options.slot ?? 0}`,
      stream: "stdout",
      maxLineBytes: 1024 * 1024,
    });
    const { promise: ended, resolve: onEnd } = Promise.withResolvers<void>();
    const source = new LogSource({ fd: readFd, annotator, sink, turns, onEnd });
    return { source, annotator, ended, process: child, exited: once(child, "exit") };
  }

  function newFileSink(): { sink: LogSink; records: () => Record<string, unknown>[] } {
    const path = join(directory, `out${pipes++}`);
    const sink = new LogSink({ fd: open(path, "a"), onError: assert.fail });
    const lines = () => readFileSync(path, "utf8").split("\n").slice(0, -1);
    return { sink, records: () => lines().map((line) => JSON.parse(line)) };
  }

  test("every line of four floods is written exactly once and in order", async () => {
    const { sink, records } = newFileSink();
    const count = 40_000;
    const script = `awk 'BEGIN { for (i = 0; i < ${count}; i++) if (i % 2) print "text " i; else print "{\\"n\\":" i "}" }'`;
    const workers = [0, 1, 2, 3].map((slot) => newWorker(script, sink, { slot }));
    for (const { source } of workers) source.start();
    await Promise.all(workers.map(({ ended }) => ended));
    await sink.flush();
    const next = new Map<unknown, number>();
    for (const record of records()) {
      const expected = next.get(record["worker_id"]) ?? 0;
      assert.equal(
        expected % 2 ? record["worker_info_msg"] : record["n"],
        expected % 2 ? `text ${expected}` : expected,
      );
      next.set(record["worker_id"], expected + 1);
    }
    assert.deepEqual([...next.values()], [count, count, count, count]);
    for (const { annotator } of workers)
      assert.deepEqual([annotator.linesJson, annotator.linesText], [count / 2, count / 2]);
    assert.equal(sink.pendingBytes, 0);
  });

  test("200 lines of 100 KB are written whole", async () => {
    const { sink, records } = newFileSink();
    const script = `awk 'BEGIN { s = "x"; while (length(s) < 100000) s = s s; s = substr(s, 1, 100000); for (i = 0; i < 200; i++) print i s }'`;
    const worker = newWorker(script, sink);
    worker.source.start();
    await worker.ended;
    await sink.flush();
    const texts = records().map((record) => record["worker_info_msg"]);
    assert.deepEqual(
      texts,
      Array.from({ length: 200 }, (_, index) => `${index}${"x".repeat(100_000)}`),
    );
  });

  test("output of a worker that was killed in the middle of a line is written", async () => {
    const { sink, records } = newFileSink();
    const worker = newWorker("printf 'whole\\nhalf'; kill -KILL $$", sink);
    worker.source.start();
    await worker.ended;
    await sink.flush();
    assert.deepEqual(
      records().map((record) => record["worker_info_msg"]),
      ["whole", "half"],
    );
  });

  test("a stream ends at finish although a foreign process still holds the pipe", async () => {
    const { sink, records } = newFileSink();
    const worker = newWorker("sleep 600 & printf 'pid %s\\nlast' $!", sink);
    // The worker writes before anyone reads, so all of it is in the pipe when the group has exited.
    await worker.exited;
    worker.source.start();
    worker.source.finish();
    await worker.ended;
    await sink.flush();
    const texts = records().map((record) => String(record["worker_info_msg"]));
    // The foreign process can go only now that it has been in the way.
    process.kill(Number(/^pid (\d+)$/u.exec(texts[0] ?? "")?.[1]), "SIGKILL");
    assert.equal(texts[1], "last");
    assert.ok(worker.source.isEnded);
  });

  test("finish ends a stream that a foreign process keeps flooding", async () => {
    const { sink } = newFileSink();
    const worker = newWorker("exec yes", sink);
    worker.source.start();
    while (worker.annotator.linesText < 100_000) await nextTurn();
    worker.source.finish();
    await worker.ended;
    await sink.flush();
    assert.equal(sink.bytesWritten, worker.annotator.bytesOut);
  });

  test("a new process of a slot is read only after its predecessor", async () => {
    const { sink, records } = newFileSink();
    const old = newWorker("read -r _; seq 1 20000", sink);
    const successor = newWorker("echo new", sink);
    const third = newWorker("echo third", sink);
    successor.source.startAfter(old.source);
    third.source.startAfter(old.source);
    await Promise.all([successor.exited, third.exited]);
    old.source.start();
    await Promise.all([old.ended, successor.ended, third.ended]);
    await sink.flush();
    // seq prints JSON numbers, which are no objects.
    const expected = [...Array.from({ length: 20_000 }, (_, index) => String(index + 1)), "new", "third"];
    assert.deepEqual(
      records().map((record) => record["worker_info_msg"]),
      expected,
    );
  });

  for (const [name, flags] of [
    ["blocking", constants.O_WRONLY],
    ["non-blocking", constants.O_WRONLY | constants.O_NONBLOCK],
  ] as const) {
    test(`a reader that stops slows the workers and loses nothing (${name} pipe)`, async () => {
      const { path, readFd } = newPipe();
      fds.push(readFd);
      const outFd = openSync(path, flags);
      const sink = new LogSink({ fd: outFd, onError: assert.fail });
      const workers = [0, 1].map((slot) => newWorker("seq -f 'line %.0f' 1 60000", sink, { slot }));
      for (const { source } of workers) source.start();
      // No process reads, and yet this thread keeps running.
      while (!sink.isFull || workers.some(({ source }) => source.blockedMs === 0)) await nextTurn();
      assert.ok(sink.pendingBytes < 4 * 1024 * 1024);
      assert.ok(workers.every(({ process: { exitCode } }) => exitCode === null));
      const chunks: Buffer[] = [];
      let isDone = false;
      const allWritten = Promise.all(workers.map(({ ended }) => ended))
        .then(() => sink.flush())
        .then(() => {
          isDone = true;
          closeSync(outFd);
        });
      for (let count = -1; count !== 0; ) {
        const chunk = Buffer.alloc(1024 * 1024);
        count = readNow(readFd, chunk);
        if (count > 0) chunks.push(chunk.subarray(0, count));
        else if (!isDone || count < 0) await nextTurn();
      }
      await allWritten;
      const next = new Map<string, number>();
      for (const line of Buffer.concat(chunks).toString().trimEnd().split("\n")) {
        const record = JSON.parse(line);
        const expected = (next.get(record.worker_id) ?? 0) + 1;
        assert.equal(record.worker_info_msg, `line ${expected}`);
        next.set(record.worker_id, expected);
      }
      assert.deepEqual([...next.values()], [60_000, 60_000]);
      assert.ok(sink.blockedMs > 0);
      assert.equal(sink.discardedBytes, 0);
    });
  }

  test("a lost reader is reported once, and the workers continue", async () => {
    const { path, readFd } = newPipe();
    const outFd = open(path, constants.O_WRONLY);
    const codes: (string | undefined)[] = [];
    const sink = new LogSink({ fd: outFd, onError: (error) => codes.push(error.code) });
    closeSync(readFd);
    const worker = newWorker("seq 1 300000", sink);
    worker.source.start();
    await worker.ended;
    await sink.flush();
    assert.deepEqual(codes, ["EPIPE"]);
    assert.ok(sink.isDead);
    assert.equal(sink.bytesWritten, 0);
    assert.equal(sink.discardedBytes, worker.annotator.bytesOut);
  });

  test("records of the controller never land inside a worker's line", async () => {
    const { sink, records } = newFileSink();
    const logger = new SinkLogger({ sink, isDebug: false, epochMs: () => 1_700_000_000_000 });
    const tapped: Buffer[] = [];
    const untap = sink.tap((copy) => tapped.push(copy));
    const worker = newWorker("seq 1 50000", sink);
    worker.source.start();
    let count = 0;
    while (!worker.source.isEnded) {
      logger.info("tick", { count: count++ });
      logger.debug("never");
      await nextTurn();
    }
    await sink.flush();
    untap();
    logger.warn("after");
    await sink.flush();
    const all = records();
    assert.equal(all.length, 50_000 + count + 1);
    assert.deepEqual(all.at(-1), { level: "warn", ts: 1_700_000_000, msg: "after" });
    assert.equal(Buffer.concat(tapped).toString().trimEnd().split("\n").length, 50_000 + count);
  });

  test("debug records are readable text", async () => {
    const path = join(directory, "readable");
    const sink = new LogSink({ fd: open(path, "w") });
    new SinkLogger({ sink, isDebug: true, epochMs: () => 0 }).debug("why", { pool: "web" });
    await sink.flush();
    assert.equal(readFileSync(path, "utf8"), "00:00:00.000 DEBUG why pool=web\n");
  });

  test("standard output and error share a sink if they are the same file", () => {
    const one = open(join(directory, "one"), "a");
    const same = open(join(directory, "one"), "a");
    const other = open(join(directory, "other"), "a");
    const shared = openSinks({ fd: one }, { fd: same });
    assert.equal(shared.stdout, shared.stderr);
    const apart = openSinks({ fd: one }, { fd: other });
    assert.notEqual(apart.stdout, apart.stderr);
  });
});

/** Bytes read; 0 at the end of the file, -1 where nothing is there yet. */
function readNow(fd: number, chunk: Buffer): number {
  try {
    return readSync(fd, chunk);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EAGAIN") return -1;
    throw error;
  }
}
