/** The log path of the real executable: real workers, real pipes, readers that behave badly. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { StringDecoder } from "node:string_decoder";
import { describe, test } from "node:test";
import { ControllerUnderTest, eventually, poolOf } from "../support/controller.ts";

const REST_FOR_EVER = "exec sleep 100000";
/** One crash and the slot stays down. */
const NO_RESTART = { max_restarts: 0, restart: { on_exhausted: "give-up-worker" } };

type LogRecord = Readonly<Record<string, unknown>>;

/** A real pipe for the controller's stdout: node's own would be a socket. The test holds its read end. */
class OutputPipe implements AsyncDisposable {
  /** To be handed to the controller, then closed with `handOver`. */
  readonly writeFd: number;
  /** Name of the pipe in /proc/<pid>/fd. */
  readonly path: string;
  onLine: (line: string) => void = () => {};
  readonly #directory: string;
  readonly #socket: Socket;
  readonly #waiting = new Set<() => void>();
  #rest = "";

  constructor() {
    this.#directory = mkdtempSync(join(tmpdir(), "monoceros-pipe-"));
    this.path = join(this.#directory, "out");
    execFileSync("mkfifo", [this.path]);
    const readFd = openSync(this.path, constants.O_RDONLY | constants.O_NONBLOCK);
    this.writeFd = openSync(this.path, constants.O_WRONLY);
    this.#socket = new Socket({ fd: readFd, readable: true, writable: false });
    this.#socket.on("error", () => {});
  }

  /** Call when the controller runs: from now on it is the only one with a write end. */
  handOver(): void {
    closeSync(this.writeFd);
  }

  /** Begins to read, or goes on. */
  read(): void {
    if (this.#socket.listenerCount("data") > 0) {
      this.#socket.resume();
      return;
    }
    const decoder = new StringDecoder("utf8");
    this.#socket.on("data", (chunk: Buffer) => {
      const lines = (this.#rest + decoder.write(chunk)).split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.onLine(line);
      for (const wake of this.#waiting) wake();
    });
  }

  /** Waits until `condition` holds; it is looked at after each chunk. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      await new Promise<void>((wake) => {
        this.#waiting.clear();
        this.#waiting.add(wake);
      });
    }
  }

  /** The reader goes away for good. */
  close(): void {
    this.#socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

interface Piped extends AsyncDisposable {
  readonly controller: ControllerUnderTest;
  readonly pipe: OutputPipe;
  /** Records so far, where the test keeps them. */
  readonly records: LogRecord[];
}

/** A controller whose stdout is a real pipe; every line of it must be JSON. `keep` collects the records. */
async function startPiped(workers: string, options: { isRead?: boolean } = {}): Promise<Piped> {
  const pipe = new OutputPipe();
  const records: LogRecord[] = [];
  pipe.onLine = (line) => records.push(JSON.parse(line) as LogRecord);
  const controller = await ControllerUnderTest.start({ workers, stdout: pipe.writeFd });
  pipe.handOver();
  if (options.isRead !== false) pipe.read();
  return {
    controller,
    pipe,
    records,
    async [Symbol.asyncDispose]() {
      await controller[Symbol.asyncDispose]();
      await pipe[Symbol.asyncDispose]();
    },
  };
}

function shell(name: string, script: string, more: Readonly<Record<string, unknown>> = {}): string {
  return poolOf({ name, replicas: 1, exec: "/bin/sh", args: ["-c", script], startup_wait_time: "0s", ...more });
}

/** Text of the record of a line that was no JSON object. */
function textOf(record: LogRecord): string {
  return String(record["worker_info_msg"] ?? record["worker_error_msg"]);
}

describe("logs", () => {
  test("a million JSON lines and a million text lines of four workers appear exactly once and in order [G1]", async () => {
    const lines = 500_000;
    const padding = "the quick brown fox jumps over the lazy dog, again and again, until the line is long enough";
    const json = `{"level":"info","seq":%.0f,"big":12345678901234567890,"msg":"${padding}"}`;
    await using run = await startPiped(
      [
        shell("json", `seq -f '${json}' 0 ${lines - 1}; ${REST_FOR_EVER}`, { replicas: 2 }),
        shell("text", `seq -f '%.0f ${padding}' 0 ${lines - 1}; ${REST_FOR_EVER}`, { replicas: 2 }),
      ].join("\n"),
      { isRead: false },
    );
    const next = new Map<unknown, number>();
    let wrong = "";
    run.pipe.onLine = (line) => {
      const record = JSON.parse(line) as LogRecord;
      const id = record["worker_id"];
      const expected = next.get(id) ?? 0;
      next.set(id, expected + 1);
      const isJson = id === "json-0" || id === "json-1";
      const isRight = isJson
        ? line === `{"worker_id":"${id}",${json.replace("%.0f", String(expected)).slice(1)}`
        : record["worker_info_msg"] === `${expected} ${padding}`;
      if (!isRight && wrong === "") wrong = `line ${expected} of ${id}: ${line}`;
    };
    run.pipe.read();
    await run.pipe.until(() => wrong !== "" || [...next.values()].reduce((sum, count) => sum + count, 0) >= 4 * lines);
    assert.equal(wrong, "");
    assert.deepEqual(Object.fromEntries(next), { "json-0": lines, "json-1": lines, "text-0": lines, "text-1": lines });
    const { controller } = run;
    for (const [pool, format] of [
      ["json", "json"],
      ["text", "text"],
    ]) {
      const series = `monoceros_log_lines_total{pool="${pool}",stream="stdout",format="${format}"}`;
      assert.equal(await controller.metric(series), 2 * lines);
    }
    assert.equal(await controller.metric('monoceros_log_discarded_bytes_total{stream="stdout"}'), 0);
  });

  test("200 lines of 100 KB from each of four workers, and the last line before a crash, appear exactly once [G1]", async () => {
    const write = (line: string, last: string) =>
      `x=$(head -c 100000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 200 ]; do echo "${line}"; i=$((i+1)); done; echo '${last}'; kill -9 $$`;
    await using run = await startPiped(
      [
        shell("text", write("$i $x", "last words"), { replicas: 2, ...NO_RESTART }),
        shell("json", write('{\\"i\\":$i,\\"x\\":\\"$x\\"}', '{"last":"words"}'), { replicas: 2, ...NO_RESTART }),
      ].join("\n"),
    );
    const long = "x".repeat(100_000);
    const seen = new Map<unknown, string[]>();
    run.pipe.onLine = (line) => {
      const record = JSON.parse(line) as LogRecord;
      const id = record["worker_id"];
      const isText = "worker_info_msg" in record;
      const whole = isText ? textOf(record) : line.replace(`"worker_id":"${id}",`, "");
      seen.set(id, [...(seen.get(id) ?? []), whole]);
    };
    const ids = ["text-0", "text-1", "json-0", "json-1"];
    await run.pipe.until(() => ids.every((id) => seen.get(id)?.at(-1)?.includes("words") === true));
    for (const id of ids) {
      const expected = Array.from({ length: 200 }, (_, i) =>
        id.startsWith("text") ? `${i} ${long}` : `{"i":${i},"x":"${long}"}`,
      );
      expected.push(id.startsWith("text") ? "last words" : '{"last":"words"}');
      const lines = seen.get(id) ?? [];
      assert.equal(lines.length, expected.length);
      // Not deepEqual: it would print megabytes.
      for (const [index, line] of lines.entries()) assert.ok(line === expected[index], `line ${index} of ${id}`);
    }
  });

  test("a reader that pauses for 10 s slows only the workers: no line is lost, health responds, a killed worker restarts [G2]", async () => {
    const count = 150_000;
    const padding = "a line of ordinary length, so that all buffers on the way are full before the worker is done";
    const script = `seq -f "$MONOCEROS_INCARNATION %.0f ${padding}" 0 ${count - 1}; ${REST_FOR_EVER}`;
    await using run = await startPiped(shell("web", script, { replicas: 2 }), { isRead: false });
    const { controller, pipe } = run;
    await controller.ready();
    const blocked = 'monoceros_log_blocked_seconds_total{stream="stdout"}';
    const blockedFor = (seconds: number) =>
      eventually(
        async () => ((await controller.metric(blocked)) >= seconds ? true : undefined),
        `${seconds} s blocked`,
      );
    await blockedFor(0.5);
    const bytes = () => controller.metric('monoceros_log_bytes_total{pool="web",stream="stdout"}');
    const bytesBefore = await bytes();

    const pid = await controller.pidOf("web-0");
    process.kill(-pid, "SIGKILL");
    await controller.event((event) => event.kind === "spawned" && event.slot === 0 && event.incarnation === 2);
    await controller.event((event) => event.kind === "ready" && event.slot === 0 && event.incarnation === 2);
    assert.equal((await controller.call("GET", "/health")).status, 200);
    await blockedFor(10);
    assert.equal((await controller.call("GET", "/health")).status, 200);
    assert.equal(await bytes(), bytesBefore, "no worker output is read while stdout is not read");

    const lines = new Map<string, string[]>();
    pipe.onLine = (line) => {
      const record = JSON.parse(line) as LogRecord;
      const id = String(record["worker_id"]);
      const list = lines.get(id) ?? [];
      list.push(textOf(record));
      lines.set(id, list);
    };
    pipe.read();
    const isLast = (id: string, incarnation: number) =>
      lines.get(id)?.at(-1) === `${incarnation} ${count - 1} ${padding}`;
    await pipe.until(() => isLast("web-0", 2) && isLast("web-1", 1));

    const expected = (incarnation: number) =>
      Array.from({ length: count }, (_, index) => `${incarnation} ${index} ${padding}`);
    const check = (actual: readonly string[], wanted: readonly string[]) => {
      assert.equal(actual.length, wanted.length);
      for (const [index, line] of actual.entries()) assert.equal(line, wanted[index]);
    };
    check(lines.get("web-1") ?? [], expected(1));
    const first = lines.get("web-0") ?? [];
    const start = first.indexOf(`2 0 ${padding}`);
    check(first.slice(start), expected(2));
    // What the killed process had written comes first; its last line may be the half of one.
    const killed = first.slice(0, start);
    const cut = killed.pop() ?? "";
    check(killed, expected(1).slice(0, killed.length));
    assert.ok(`1 ${killed.length} ${padding}`.startsWith(cut), cut);
  });

  test("unusual lines keep their bytes: bad UTF-8, CRLF, NUL, empty, braces, a worker_id, overlong, no final newline [G3]", async () => {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-odd-"));
    try {
      const badUtf8 = Buffer.from([0x61, 0xff, 0xfe, 0x62]);
      const overlong = "żółć".repeat(800);
      const overlongJson = `{"a":"${"y".repeat(3000)}"}`;
      const input = Buffer.concat([
        badUtf8,
        Buffer.from("\ntext\r\n"),
        Buffer.from('{"crlf":1}\r\n'),
        Buffer.from("a\u0000b\n\n{}\n{ }\n"),
        Buffer.from('{"worker_id":"mine","n":12345678901234567890,"f":1.0}\n'),
        Buffer.from("{ garbage }\n"),
        Buffer.from(`${overlong}\n${overlongJson}\n`),
        Buffer.from("the end"),
      ]);
      const file = join(directory, "odd");
      writeFileSync(file, input);
      const script = `cat ${file}; exec ${REST_FOR_EVER.slice(5)} >/dev/null 2>&1`;
      await using run = await startPiped(shell("odd", script, { logs: { max_line: "1KiB" } }));
      const lines: string[] = [];
      run.pipe.onLine = (line) => lines.push(line);
      await run.pipe.until(() => lines.at(-1)?.includes('"the end"') === true);

      const records = lines.map((line) => JSON.parse(line) as LogRecord);
      for (const record of records) assert.equal(record["worker_id"], "odd-0");
      const parts = records.filter((record) => record["part"] !== undefined);
      assert.equal(parts.map(textOf).join(""), overlong + overlongJson);
      for (const part of parts) assert.ok(Buffer.byteLength(textOf(part)) <= 1024);
      assert.equal(parts.filter((record) => record["last_part"] === true).length, 2);

      const whole = lines.filter((_, index) => records[index]?.["part"] === undefined);
      const [bad, crlf, ...others] = whole;
      assert.equal(JSON.parse(bad ?? "").worker_bytes_base64, badUtf8.toString("base64"));
      assert.equal(JSON.parse(crlf ?? "").worker_info_msg, "text\r");
      assert.equal(others[0], '{"worker_id":"odd-0","crlf":1}\r');
      assert.equal(JSON.parse(others[1] ?? "").worker_info_msg, "a\u0000b");
      assert.equal(JSON.parse(others[2] ?? "").worker_info_msg, "");
      assert.deepEqual(others.slice(3, 6), [
        '{"worker_id":"odd-0"}',
        '{"worker_id":"odd-0" }',
        '{"worker_id":"odd-0","app_worker_id":"mine","n":12345678901234567890,"f":1.0}',
      ]);
      assert.equal(JSON.parse(others[6] ?? "").worker_info_msg, "{ garbage }");
      assert.equal(JSON.parse(others[7] ?? "").worker_info_msg, "the end");
      assert.equal(others.length, 8);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("a worker that closes its stdout keeps running, and its next incarnation is read [G4]", async () => {
    const script = `echo "hello $MONOCEROS_INCARNATION"; exec >&-; echo 'still here' >&2; ${REST_FOR_EVER}`;
    await using run = await startPiped(shell("web", script));
    const { controller, pipe, records } = run;
    await controller.ready();
    const pid = await controller.pidOf("web-0");
    await controller.until(() => controller.stderr.some((line) => line.includes("still here")), "the line on stderr");
    assert.equal((await controller.worker("web-0")).restarts, 0);
    assert.equal(await controller.pidOf("web-0"), pid);
    assert.equal((await controller.call("POST", "/v1/workers/web-0/stop")).status, 202);
    await controller.event((event) => event.kind === "stopped");
    assert.equal((await controller.call("POST", "/v1/workers/web-0/start")).status, 202);
    await pipe.until(() => records.length === 2);
    assert.deepEqual(records.map(textOf), ["hello 1", "hello 2"]);
  });

  test("a worker killed within a line leaves that part as a separate record [G1]", async () => {
    const script = `[ $MONOCEROS_INCARNATION = 1 ] || { echo whole; ${REST_FOR_EVER}; }; echo before; printf 'half'; kill -9 $$`;
    await using run = await startPiped(shell("web", script));
    await run.pipe.until(() => run.records.length === 3);
    assert.deepEqual(run.records.map(textOf), ["before", "half", "whole"]);
  });

  test("a closed reader of stdout does not stop the workers, and is logged and counted [G2]", async () => {
    const script = `echo first; while [ ! -e "$MARK" ]; do sleep 0.02; done; seq 1 300000; echo 'wrote all' >&2; ${REST_FOR_EVER}`;
    const directory = mkdtempSync(join(tmpdir(), "monoceros-gone-"));
    try {
      const mark = join(directory, "gone");
      await using run = await startPiped(shell("web", script, { env: { MARK: mark } }));
      const { controller, pipe, records } = run;
      await pipe.until(() => records.length === 1);
      pipe.close();
      const pid = await controller.pidOf("web-0");
      writeFileSync(mark, "");
      await controller.until(() => controller.stderr.some((line) => line.includes("wrote all")), "all is written");
      const said = controller.stderr.filter((line) => line.includes("stdout cannot be written to"));
      assert.equal(said.length, 1);
      assert.equal(JSON.parse(said[0] ?? "").error, "EPIPE");
      assert.ok((await controller.metric('monoceros_log_discarded_bytes_total{stream="stdout"}')) > 0);
      assert.equal(await controller.pidOf("web-0"), pid);
      assert.equal((await controller.stop()).code, 0);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("logs.mode inherit gives the worker the controller's own descriptors", async () => {
    await using run = await startPiped(shell("web", `echo plain; ${REST_FOR_EVER}`, { logs: { mode: "inherit" } }), {
      isRead: false,
    });
    const { controller, pipe } = run;
    const lines: string[] = [];
    pipe.onLine = (line) => lines.push(line);
    pipe.read();
    await pipe.until(() => lines.length === 1);
    assert.deepEqual(lines, ["plain"]);
    const pid = await controller.pidOf("web-0");
    for (const fd of [1, 2]) {
      assert.equal(readlinkSync(`/proc/${pid}/fd/${fd}`), readlinkSync(`/proc/${controller.pid}/fd/${fd}`));
    }
    assert.equal(readlinkSync(`/proc/${pid}/fd/1`), pipe.path);
  });

  test("stderr of a worker goes to stderr as worker_error_msg, stdout to stdout as worker_info_msg", async () => {
    await using run = await startPiped(shell("web", `echo out; echo oops >&2; echo '{"a":1}' >&2; ${REST_FOR_EVER}`));
    const { controller, pipe, records } = run;
    await pipe.until(() => records.length === 1);
    const ofWorker = () =>
      controller.stderr
        .map((line) => JSON.parse(line) as LogRecord)
        .filter((record) => "worker_error_msg" in record || "a" in record);
    await controller.until(() => ofWorker().length === 2, "two lines on stderr");
    const { ts: outTs, ...out } = records[0] ?? {};
    const { ts: errTs, ...err } = ofWorker()[0] ?? {};
    assert.deepEqual(out, { level: "info", pool: "web", worker_id: "web-0", stream: "stdout", worker_info_msg: "out" });
    assert.deepEqual(err, {
      level: "info",
      pool: "web",
      worker_id: "web-0",
      stream: "stderr",
      worker_error_msg: "oops",
    });
    assert.deepEqual(ofWorker()[1], { worker_id: "web-0", a: 1 });
    for (const ts of [outTs, errTs]) assert.ok(typeof ts === "number" && Math.abs(ts * 1000 - Date.now()) < 60_000);
  });

  test("the output of thirty incarnations of a slot appears in order", async () => {
    const script = `seq -f "$MONOCEROS_INCARNATION %.0f some words to fill it" 0 1999`;
    const restart = { backoff: { initial: "1ms", max: "1ms", jitter: 0 } };
    await using run = await startPiped(shell("web", script, { restart }));
    await run.pipe.until(() => run.records.length >= 30 * 2000);
    for (const [index, record] of run.records.slice(0, 30 * 2000).entries()) {
      const incarnation = Math.floor(index / 2000) + 1;
      assert.equal(textOf(record), `${incarnation} ${index % 2000} some words to fill it`);
    }
  });

  test("output that a worker writes while it stops appears before the controller exits [G1]", async () => {
    const script = `trap 'seq -f "bye %.0f" 1 5000; exit 0' TERM; echo up; while :; do sleep 0.05; done`;
    await using run = await startPiped(shell("web", script, { replicas: 3 }));
    await run.pipe.until(() => run.records.length === 3);
    assert.equal((await run.controller.stop()).code, 0);
    await run.pipe.until(() => run.records.length >= 3 + 3 * 5000);
    for (const slot of [0, 1, 2]) {
      const texts = run.records.filter((record) => record["worker_id"] === `web-${slot}`).map(textOf);
      assert.deepEqual(texts, ["up", ...Array.from({ length: 5000 }, (_, index) => `bye ${index + 1}`)]);
    }
  });

  test("stdout and stderr in one pipe (2>&1) never mix within a line", async () => {
    const long = "z".repeat(9000);
    const script = `x=$(head -c 9000 /dev/zero | tr '\\0' z); i=0; while [ $i -lt 300 ]; do echo "$i $x"; echo "$i $x" >&2; i=$((i+1)); done; ${REST_FOR_EVER}`;
    await using controller = await ControllerUnderTest.start({
      workers: [
        shell("web", script, { replicas: 3 }),
        shell("crash", "echo crashing; exit 3", { restart: { backoff: { initial: "5ms", max: "5ms" } } }),
      ].join("\n"),
      wrapper: ["/bin/sh", "-c", 'exec "$@" 2>&1', "sh"],
    });
    const ofWeb = (key: string, slot: number) =>
      controller.stdout
        .filter((line) => line.includes(`"${key}"`) && line.includes(`"web-${slot}"`))
        .map((line) => String((JSON.parse(line) as LogRecord)[key]));
    const keys = ["worker_info_msg", "worker_error_msg"];
    const total = 3 * 2 * 300;
    await controller.until(
      () =>
        controller.stdout.length >= total &&
        controller.stdout.filter((line) => line.includes('"web-') && line.includes("_msg")).length >= total,
      "all lines",
    );
    const expected = Array.from({ length: 300 }, (_, index) => `${index} ${long}`);
    for (const key of keys) for (const slot of [0, 1, 2]) assert.ok(ofWeb(key, slot).join() === expected.join());
    const own = controller.stdout.map((line) => JSON.parse(line) as LogRecord).filter((record) => "msg" in record);
    assert.ok(
      own.some((record) => record["event"] === "exited"),
      "records of the controller are there too",
    );
    assert.deepEqual(controller.stderr, []);
  });
});
