import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeController, sendJson, statusOf, workerDetail, workerStatus } from "../../test/support/fakeController.ts";
import { MemoryTerminal } from "../../test/support/memoryTerminal.ts";
import type { Status } from "../admin/api.ts";
import { cli } from "./cli.ts";
import { COMMAND_GROUPS } from "./commands.ts";
import type { Screen } from "./screen/screen.ts";

async function run(fake: FakeController, line: string, terminal = new MemoryTerminal()): Promise<MemoryTerminal> {
  const argv = [...line.split(" "), "--socket", fake.socketPath];
  const code = await cli(argv, { groups: COMMAND_GROUPS, env: {}, terminal });
  terminal.stderr += code;
  return terminal;
}

function sampleAt(seconds: number): Status {
  const status = statusOf(
    workerStatus({ detail: workerDetail({ cpu_seconds: seconds / 2, requests_total: seconds }) }),
  );
  const [web] = status.pools;
  assert.ok(web !== undefined);
  const balance = {
    mode: "supervisor",
    algorithm: null,
    window_s: 60,
    cpu_spread: 1,
    requests_spread: null,
    verdict: "even",
    advice: "leave it",
  } as const;
  return { ...status, uptime_s: 180 + seconds, pools: [{ ...web, balance }] };
}

/** Ends after so many frames. */
class FakeScreen implements Screen {
  readonly lines = 24;
  readonly frames: string[] = [];
  isOpen = true;
  readonly #end = new AbortController();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }
  /** Presses a key as a user does; nothing happens before the command listens. */
  press: (key: string) => void = () => {};
  onKey(listener: (key: string) => void): void {
    this.press = listener;
  }
  get ended(): AbortSignal {
    return this.#end.signal;
  }
  draw(lines: readonly string[]): void {
    this.frames.push(lines.join("\n"));
    if (this.frames.length >= this.#most) this.#end.abort();
  }
  end(): void {
    this.#end.abort();
  }
  [Symbol.dispose](): void {
    this.isOpen = false;
  }
}

/** A worker that is a shell, which waits, and a server that uses half a CPU. */
function withProcesses(seconds: number): Status {
  const common = { rss_bytes: 1 << 20, state: "S" };
  const processes = [
    { ...common, pid: 100, parent_pid: 12, cpu_seconds: 1, command: "sh -c app" },
    { ...common, pid: 102, parent_pid: 100, state: "R", cpu_seconds: seconds / 2, command: "python app.py" },
  ];
  const detail = workerDetail({ cpu_seconds: seconds / 2, process_count: 2, processes });
  return { ...statusOf(workerStatus({ detail })), uptime_s: 180 + seconds };
}

class ScreenTerminal extends MemoryTerminal {
  readonly screen: FakeScreen;
  constructor(screen: FakeScreen) {
    super();
    this.screen = screen;
  }
  override openScreen(): Screen {
    return this.screen;
  }
}

test("balance prints a table with advice, and JSON for a named pool", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(sampleAt(0));
  const { stdout, stderr } = await run(fake, "balance");
  assert.equal(stderr, "0");
  assert.match(stdout, /^web: balanced by the kernel.*\n {2}leave it\n$/su);
  assert.deepEqual(fake.requests, ["GET /v1/status?detail=1"]);
  const json = JSON.parse((await run(fake, "balance web --json")).stdout) as unknown;
  assert.deepEqual(json, [
    {
      pool: "web",
      mode: "supervisor",
      algorithm: null,
      window_s: 60,
      cpu_spread: 1,
      requests_spread: null,
      verdict: "even",
      advice: "leave it",
      workers: [{ id: "web-0", cpu_ratio: 0.25, requests_per_second: 10, requests_in_flight: 2 }],
    },
  ]);
  const unknown = await run(fake, "balance wep");
  assert.match(unknown.stderr, /Cannot show the balance of pool "wep".*did you mean "web"\?.*1$/su);
});

test("top in a pipe prints one table with rates between two samples", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(sampleAt(0), sampleAt(2));
  const { stdout, stderr } = await run(fake, "top -n 100ms");
  assert.equal(stderr, "0");
  assert.match(stdout, /^monoceros running.*web-0 +ready +100 +50\.0 %.*\n$/su);
  assert.equal(stdout.match(/WORKER/gu)?.length, 1);
  assert.equal(fake.requests.length, 2);
});

test("top --json prints each worker with its details and rates", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(sampleAt(0), sampleAt(4));
  const [first] = JSON.parse((await run(fake, "top web --once --json -n 100ms")).stdout) as Record<string, unknown>[];
  assert.equal(first?.["id"], "web-0");
  assert.equal(first["cpu_ratio"], 0.5);
  assert.equal(first["requests_per_second"], 1);
  assert.deepEqual((first["detail"] as { rss_bytes: number }).rss_bytes, 64 << 20);
});

test("top on a terminal refreshes until the user quits, then restores the screen", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(sampleAt(0), sampleAt(1), sampleAt(2));
  const screen = new FakeScreen(3);
  const { stdout, stderr } = await run(fake, "top -n 100ms", new ScreenTerminal(screen));
  assert.deepEqual([stdout, stderr, screen.isOpen], ["", "0", false]);
  assert.equal(screen.frames.length, 3);
  assert.match(screen.frames[0] ?? "", /web-0 +ready +100 +- /u);
  assert.match(screen.frames[2] ?? "", /web-0 +ready +100 +50\.0 %/u);
});

test("top --processes shows each process of a worker with its share of a CPU", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(withProcesses(0), withProcesses(2));
  const { stdout, stderr } = await run(fake, "top --processes -n 100ms");
  assert.equal(stderr, "0");
  assert.match(
    stdout,
    / COMMAND\n {2}web-0 .* 2 processes\n +R +102 +50\.0 % .*python app\.py\n +S +100 +0\.0 % .*sh -c app\n$/u,
  );
  assert.deepEqual(fake.requests, ["GET /v1/status?processes=1", "GET /v1/status?processes=1"]);
  fake.answerStatus(withProcesses(0), withProcesses(2));
  const json = JSON.parse((await run(fake, "top -p --json -n 100ms")).stdout) as { processes: { pid: number }[] }[];
  assert.deepEqual(
    json[0]?.processes.map(({ pid }) => pid),
    [102, 100],
  );
});

test("the p key in top toggles the processes of each worker", async () => {
  await using fake = await FakeController.start();
  let seconds = 0;
  fake.answers.set("GET /v1/status", (response, path) =>
    sendJson(response, 200, path.includes("processes=1") ? withProcesses(seconds++) : sampleAt(seconds++)),
  );
  const screen = new FakeScreen(100);
  const drawn = screen.draw.bind(screen);
  const steps = [/REQ/u, /python app\.py/u, /^(?!.*python)/su];
  screen.draw = (lines) => {
    drawn(lines);
    if (!steps[0]?.test(lines.join("\n"))) return;
    steps.shift();
    if (steps.length === 0) screen.end();
    // Only after the frame has been drawn does the command wait for a key.
    else setImmediate(() => screen.press("p"));
  };
  const { stderr } = await run(fake, "top -n 1h", new ScreenTerminal(screen));
  assert.deepEqual([steps.length, stderr], [0, "0"]);
});

test("top ends with an error on the restored screen when the controller exits", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(sampleAt(0));
  const screen = new FakeScreen(100);
  const drawn = screen.draw.bind(screen);
  screen.draw = (lines) => {
    drawn(lines);
    if (screen.frames.length === 2) fake.answers.set("GET /v1/status", (response) => response.destroy());
  };
  const { stderr } = await run(fake, "top -n 100ms", new ScreenTerminal(screen));
  assert.match(stderr, /Cannot reach the controller.*69$/su);
  assert.equal(screen.isOpen, false);
});

test("top rejects an unknown pool and an invalid interval before it draws", async () => {
  await using fake = await FakeController.start();
  fake.answerStatus(sampleAt(0));
  assert.match((await run(fake, "top weq")).stderr, /Cannot show pool "weq".*1$/su);
  for (const interval of ["1ms", "x", "0s"])
    assert.match((await run(fake, `top -n ${interval}`)).stderr, /--interval: expected.*2$/su);
});
