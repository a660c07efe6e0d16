import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { LogSink } from "../sink.ts";
import { LogFile, type RotationSettings } from "./logFile.ts";
import { LogFiles, type PoolFile } from "./logFiles.ts";

const PACE = { restRatio: 0, signal: new AbortController().signal };

describe("log file", () => {
  let directory: string;
  let path: string;
  let problems: string[];

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "monoceros-log-file-"));
    path = join(directory, "a.log");
    problems = [];
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const read = (name: string) => readFileSync(join(directory, name), "utf8");
  const names = () => readdirSync(directory).sort();

  function fileOf(rotation: Partial<RotationSettings> = {}): LogFile {
    return new LogFile(
      path,
      { maxBytes: 20, keep: 3, isCompressed: false, ...rotation },
      { onRotated: () => problems.push("rotated"), onRotationFailed: (error) => problems.push(`${error.code}`) },
    );
  }

  /** Writes the records as a sink does; returns the number of bytes taken, or rejects. */
  async function append(file: LogFile, text: string): Promise<void> {
    const records = Buffer.from(text);
    for (let at = 0; at < records.length; )
      at += await new Promise<number>((resolve, reject) =>
        file.write(records, at, records.length - at, (error, count) => (error ? reject(error) : resolve(count))),
      );
  }

  const tenBytes = (n: number) => `record-${String(n).padStart(2, "0")}\n`;

  test("rotates between records, and keeps as many files as configured", async () => {
    const file = fileOf({ keep: 2 });
    await append(file, [0, 1, 2, 3, 4, 5, 6].map(tenBytes).join(""));
    assert.deepEqual(names(), ["a.log", "a.log.1", "a.log.2"]);
    assert.equal(read("a.log.2") + read("a.log.1") + read("a.log"), [2, 3, 4, 5, 6].map(tenBytes).join(""));
    assert.deepEqual([file.rotations, file.bytesWritten, file.errors], [3, 70, 0]);
    assert.equal(statSync(path).mode & 0o137, 0);
    await file.close();
  });

  test("appends to an existing file, also to one that is full", async () => {
    writeFileSync(path, tenBytes(0) + tenBytes(1));
    const file = fileOf();
    await append(file, tenBytes(2));
    assert.deepEqual([read("a.log.1"), read("a.log")], [tenBytes(0) + tenBytes(1), tenBytes(2)]);
    await file.close();
  });

  test("ends an unfinished record before it appends", async () => {
    writeFileSync(path, "half");
    const file = fileOf();
    await append(file, tenBytes(0));
    assert.equal(read("a.log"), `half\n${tenBytes(0)}`);
    await file.close();
  });

  test("goes on with the new file of another program that has moved the file away", async () => {
    const file = fileOf();
    await append(file, tenBytes(0));
    renameSync(path, join(directory, "moved"));
    await append(file, tenBytes(1));
    writeFileSync(path, "");
    await append(file, tenBytes(2));
    assert.deepEqual([read("moved"), read("a.log")], [tenBytes(0) + tenBytes(1), tenBytes(2)]);
    assert.deepEqual([names(), file.rotations], [["a.log", "moved"], 0]);
    await file.close();
  });

  test("does not rotate a file that another program has truncated", async () => {
    const file = fileOf();
    await append(file, tenBytes(0) + tenBytes(1));
    truncateSync(path, 0);
    await append(file, tenBytes(2));
    assert.deepEqual([names(), read("a.log")], [["a.log"], tenBytes(2)]);
    await file.close();
  });

  test("a failed rotation loses nothing, and the next attempt follows after another max_size", async () => {
    const file = fileOf({ keep: 1 });
    await append(file, tenBytes(0));
    // A directory that is not empty can be neither removed nor replaced.
    mkdirSync(join(directory, "a.log.1", "x"), { recursive: true });
    await append(file, [1, 2, 3].map(tenBytes).join(""));
    assert.deepEqual([problems.length, file.rotations, file.errors], [1, 0, 1]);
    assert.equal(read("a.log"), [0, 1, 2, 3].map(tenBytes).join(""));
    rmdirSync(join(directory, "a.log.1", "x"));
    rmdirSync(join(directory, "a.log.1"));
    await append(file, tenBytes(4));
    assert.deepEqual([read("a.log.1"), read("a.log")], [[0, 1, 2, 3].map(tenBytes).join(""), tenBytes(4)]);
    await file.close();
  });

  test("a file that cannot be opened takes nothing, and is opened when that is possible", async () => {
    mkdirSync(path);
    const file = fileOf();
    await assert.rejects(append(file, tenBytes(0)), { code: "EISDIR" });
    rmdirSync(path);
    await append(file, tenBytes(0));
    assert.deepEqual([read("a.log"), file.errors], [tenBytes(0), 1]);
    await file.close();
  });

  test("compresses rotated files, the newest first, and leaves no other file", async () => {
    const file = fileOf({ isCompressed: true });
    await append(file, [0, 1, 2, 3, 4].map(tenBytes).join(""));
    writeFileSync(join(directory, "a.log.gz.tmp"), "left by a crash");
    assert.equal(await file.compressNext(PACE), true);
    assert.deepEqual(names(), ["a.log", "a.log.1.gz", "a.log.2"]);
    assert.equal(await file.compressNext(PACE), true);
    assert.equal(await file.compressNext(PACE), false);
    assert.deepEqual(names(), ["a.log", "a.log.1.gz", "a.log.2.gz"]);
    const unzip = (name: string) => gunzipSync(readFileSync(join(directory, name))).toString();
    assert.equal(unzip("a.log.2.gz") + unzip("a.log.1.gz"), [0, 1, 2, 3].map(tenBytes).join(""));
    await append(file, tenBytes(5) + tenBytes(6));
    assert.deepEqual(names(), ["a.log", "a.log.1", "a.log.2.gz", "a.log.3.gz"]);
    await file.close();
  });

  test("a rotation during the compression gives the compressed file its new number", async () => {
    const file = fileOf({ isCompressed: true, maxBytes: 4_000_000 });
    const half = `${"x".repeat(1_999_999)}\n`;
    await append(file, half + half + half);
    const compressed = file.compressNext(PACE);
    while (!existsSync(`${path}.gz.tmp`)) await new Promise((turn) => setImmediate(turn));
    await append(file, half + half);
    await compressed;
    assert.deepEqual(names(), ["a.log", "a.log.1", "a.log.2.gz"]);
    assert.equal(gunzipSync(readFileSync(join(directory, "a.log.2.gz"))).toString(), half + half);
    await file.close();
  });

  test("a sink discards records when its patience ends, and a record in the file marks the gap", async () => {
    const events: string[] = [];
    const files = new LogFiles({
      failed: (pool, _, { code }) => events.push(`${pool} failed ${code}`),
      recovered: (pool, _, bytes) => events.push(`${pool} recovered ${bytes}`),
      rotationFailed: assert.fail,
      compressionFailed: assert.fail,
    });
    mkdirSync(path);
    const settings: PoolFile = { path, maxBytes: 1000, keep: 1, isCompressed: false, isOnly: true, patienceMs: 0 };
    const sink = files.assign(0, "web", settings);
    assert.ok(sink !== undefined);
    const tapped: string[] = [];
    const stop = files.tap((records) => tapped.push(records.toString()));
    sink.write(tenBytes(0));
    await sink.flush();
    assert.deepEqual([events, sink.discardedBytes, files.missingBytes], [["web failed EISDIR"], 10, 10]);
    rmdirSync(path);
    sink.write(tenBytes(1));
    await sink.flush();
    await sink.flush();
    assert.deepEqual(events, ["web failed EISDIR", "web recovered 10"]);
    const [first, gap] = read("a.log").split("\n");
    assert.equal(`${first}\n`, tenBytes(1));
    assert.match(gap ?? "", /"level":"error".*"msg":"10 bytes of records are missing near here/u);
    const [totals] = files.totals();
    assert.deepEqual([totals?.pool, totals?.discardedBytes, totals?.isFailing], ["web", 10, false]);
    assert.equal(files.missingBytes, 0);
    assert.deepEqual(tapped.slice(0, 2), [tenBytes(0), tenBytes(1)]);
    stop();
    files.assign(0, "web", { ...settings, isOnly: false });
    const all: string[] = [];
    files.tap((records) => all.push(records.toString()));
    sink.write(tenBytes(2));
    await sink.flush();
    assert.deepEqual([tapped.length, all], [3, []]);
    files.assign(0, "web", undefined);
  });

  describe("after a write that took only a part of a record", () => {
    /** Limits the size of files, so that writes end and fail as on a full disk. */
    const limit = (bytes: number | "unlimited") =>
      execFileSync("prlimit", ["--pid", String(process.pid), `--fsize=${bytes}:unlimited`]);
    let file: LogFile;

    beforeEach(async () => {
      file = fileOf({ maxBytes: 1000 });
      await append(file, tenBytes(0));
      limit(25);
      await assert.rejects(append(file, tenBytes(1) + tenBytes(2)), { code: "EFBIG" });
      limit("unlimited");
      assert.equal(read("a.log"), `${tenBytes(0)}${tenBytes(1)}recor`);
    });
    afterEach(async () => {
      limit("unlimited");
      await file.close();
    });

    test("the next attempt continues it", async () => {
      await append(file, tenBytes(2) + tenBytes(3));
      assert.equal(read("a.log"), [0, 1, 2, 3].map(tenBytes).join(""));
    });

    test("reopening moves it to the new file", async () => {
      renameSync(path, join(directory, "moved"));
      await file.reopen();
      await append(file, tenBytes(2));
      assert.deepEqual([read("moved"), read("a.log")], [tenBytes(0) + tenBytes(1), tenBytes(2)]);
    });

    test("a smaller maximum rotates before it", async () => {
      file.rotation = { maxBytes: 15, keep: 3, isCompressed: false };
      await append(file, tenBytes(2));
      assert.deepEqual(["a.log.1", "a.log"].map(read), [tenBytes(0) + tenBytes(1), tenBytes(2)]);
    });

    test("nothing remains of it when it is discarded", async () => {
      file.abandon();
      await append(file, tenBytes(3));
      assert.equal(read("a.log"), [0, 1, 3].map(tenBytes).join(""));
    });
  });

  test("a disk that takes a few records has not recovered, so the patience of the sink ends", async () => {
    const events: string[] = [];
    let isTaken = false;
    const sink = new LogSink({
      fd: {
        write: (_records, _offset, _length, done) => {
          isTaken = !isTaken;
          setImmediate(() =>
            isTaken ? done(null, 10) : done(Object.assign(new Error("full"), { code: "ENOSPC" }), 0),
          );
        },
        abandon: () => events.push("abandoned"),
      },
      onError: () => events.push("failed"),
      onRecovered: () => events.push("recovered"),
    });
    sink.patienceMs = 20;
    sink.write(tenBytes(0).repeat(1000));
    await sink.flush();
    assert.deepEqual(events, ["failed", "abandoned"]);
    assert.equal(sink.bytesWritten + sink.discardedBytes, 10_000);
    assert.ok(sink.discardedBytes > 0);
  });

  test("pools at one path share the file, and it is closed when the last of them has left it", async () => {
    const ignore = () => {};
    const files = new LogFiles({
      failed: ignore,
      recovered: ignore,
      rotationFailed: ignore,
      compressionFailed: ignore,
    });
    const settings: PoolFile = { path, maxBytes: 1000, keep: 1, isCompressed: false, isOnly: false, patienceMs: 0 };
    const one = files.assign(0, "old", settings);
    assert.equal(files.assign(1, "new", settings), one);
    files.assign(0, "old", undefined);
    one?.write(tenBytes(0));
    assert.deepEqual(await files.reopen(), [{ pool: "new", path }]);
    assert.equal(files.assign(1, "new", { ...settings, path: join(directory, "b.log") })?.pendingBytes, 0);
    await one?.flush();
    await new Promise((turn) => setImmediate(turn));
    assert.deepEqual(await files.reopen(), [{ pool: "new", path: join(directory, "b.log") }]);
    assert.equal(read("a.log"), tenBytes(0));
    assert.deepEqual(
      files.totals().map(({ pool, writtenBytes }) => [pool, writtenBytes]),
      [["new", 10]],
    );
    files.assign(1, "new", undefined);
  });
});
