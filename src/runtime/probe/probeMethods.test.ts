import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { freePort } from "../../../test/support/ports.ts";
import { lives, ProcessScene, until } from "../../../test/support/processScene.ts";
import type { Logger } from "../../base/log.ts";
import type { WorkerRef } from "../../core/identity.ts";
import { type AttemptOutcome, type ProbePolicy, type ProbePurpose, resultOf } from "../../core/policy/probe.ts";
import { readinessChannelOf } from "../channel/workerChannels.ts";
import { systemClock } from "../clock.ts";
import { SocketOwners } from "../socket/socketOwners.ts";
import { probeStarter } from "./probeMethods.ts";
import { type ProbeListener, type ProbeMethod, Prober, type ProbeTarget } from "./prober.ts";

const LONG_MS = 20_000;

/** A prober on real processes and connections that remembers what it told. */
class Observed implements ProbeListener {
  readonly told: string[] = [];
  readonly counted: string[] = [];
  readonly scene: ProcessScene;
  readonly prober: Prober;

  constructor(context: TestContext, script = "exec sleep 1000", notifies = false) {
    this.scene = new ProcessScene(context, script, { notifies });
    const ignore = () => {};
    const log: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };
    const owners = new SocketOwners(() => []);
    const start = probeStarter(this.scene.processes.helpers, owners, () => {});
    this.prober = new Prober({ clock: systemClock, random: Math.random, listener: this, log, start });
    context.after(() => this.prober.close());
  }

  becameReady(): void {
    this.told.push("ready");
  }
  becameUnready(_worker: WorkerRef, reason: string): void {
    this.told.push(`unready: ${reason}`);
  }
  startupFailed(_worker: WorkerRef, reason: string): void {
    this.told.push(`startup failed: ${reason}`);
  }
  livenessFailed(_worker: WorkerRef, reason: string): void {
    this.told.push(reason);
  }
  becameAlive(): void {
    this.told.push("alive");
  }
  attempted(_target: ProbeTarget, purpose: ProbePurpose, outcome: AttemptOutcome): void {
    this.counted.push(`${purpose} ${resultOf(outcome)}`);
  }

  async hears(what: string | RegExp): Promise<void> {
    const matches = (told: string) => (typeof what === "string" ? told === what : what.test(told));
    await until(() => this.told.some(matches), `${String(what)} is told; told was ${this.told.join(", ")}`);
  }
}

function policy(changes: Partial<ProbePolicy> = {}): ProbePolicy {
  return {
    initialDelayMs: 0,
    periodMs: 50,
    firstPeriodMs: undefined,
    timeoutMs: LONG_MS,
    failureThreshold: 3,
    successThreshold: 1,
    ...changes,
  };
}

function target(changes: Partial<ProbeTarget>): ProbeTarget {
  const nothing = { startup: undefined, readiness: undefined, liveness: undefined, readinessChannel: undefined };
  return {
    pool: 0,
    slot: 0,
    incarnation: 1,
    revision: 1,
    pid: 4242,
    owner: { leader: 4242 },
    address: undefined,
    ...nothing,
    ...changes,
  };
}

test("short probe intervals during startup find a worker soon after it listens", async (context) => {
  const it = new Observed(context);
  const port = await freePort();
  const gate = policy({ firstPeriodMs: 10, periodMs: 100, failureThreshold: Number.POSITIVE_INFINITY });
  it.prober.watch(target({ address: { port }, startup: { method: { kind: "tcp", port: undefined }, policy: gate } }));
  await until(() => it.counted.length >= 2, "two attempts have failed");
  assert.deepEqual(it.told, []);
  const server = createServer((socket) => socket.destroy()).listen(port, "127.0.0.1");
  context.after(() => server.close());
  await it.hears("ready");
  assert.equal(it.counted.at(-1), "startup success");
  assert.ok(it.counted.slice(0, -1).every((counted) => counted === "startup refused"));
});

test("a suspended worker fails its liveness probe and is alive again after it continues", async (context) => {
  const server = `require("node:http").createServer((q, r) => r.end()).listen(0, "127.0.0.1", function () {
    require("node:fs").writeFileSync("port", this.address().port + "\\n"); })`;
  const it = new Observed(context, `exec ${process.execPath} -e '${server}'`);
  const pid = it.scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  const file = it.scene.path("port");
  await until(() => existsSync(file) && readFileSync(file, "utf8").endsWith("\n"), "the worker listens");
  const method: ProbeMethod = { kind: "http", path: "/healthz", port: Number(readFileSync(file, "utf8")) };
  it.prober.watch(target({ pid, liveness: { method, policy: policy({ timeoutMs: 300, failureThreshold: 2 }) } }));
  await it.hears("alive");
  process.kill(pid, "SIGSTOP");
  await it.hears(/^liveness failed 2 times in a row: GET http:\S+healthz: no answer within 300ms$/u);
  it.told.length = 0;
  process.kill(pid, "SIGCONT");
  await it.hears("alive");
});

test("gRPC, Unix sockets and commands can be combined in one worker", async (context) => {
  const it = new Observed(context);
  const path = it.scene.path("worker.sock");
  const server = createHttp2Server().on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200 }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.from([0, 0, 0, 0, 2, 8, 1]));
  });
  context.after(() => server.close());
  await once(server.listen(path), "listening");
  it.prober.watch(
    target({
      pid: it.scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)(),
      address: { path },
      startup: { method: { kind: "exec", file: "/bin/sh", argv: ["sh", "-c", "exit 0"] }, policy: policy() },
      readiness: { method: { kind: "grpc", port: undefined, service: "a" }, policy: policy() },
      liveness: { method: { kind: "tcp", port: undefined }, policy: policy() },
    }),
  );
  await it.hears("ready");
  await it.hears("alive");
});

test("a command that hangs fails startup at its timeout", async (context) => {
  const it = new Observed(context);
  const method: ProbeMethod = { kind: "exec", file: "/bin/sh", argv: ["sh", "-c", "sleep 1000; :"] };
  const startup = { method, policy: policy({ timeoutMs: 100, failureThreshold: 2 }) };
  it.prober.watch(target({ pid: it.scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)(), startup }));
  await it.hears('startup failed: startup failed 2 times in a row: command "sh": no answer within 100ms');
});

test("the command of a forgotten worker is killed, and its result is ignored", async (context) => {
  const it = new Observed(context);
  const method: ProbeMethod = { kind: "exec", file: "/bin/sh", argv: ["sh", "-c", "echo $$ > leader; sleep 1000; :"] };
  it.prober.watch(
    target({
      pid: it.scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)(),
      readiness: { method, policy: policy() },
    }),
  );
  const file = it.scene.path("leader");
  await until(() => existsSync(file) && readFileSync(file, "utf8").endsWith("\n"), "the command runs");
  it.prober.forget({ pool: 0, slot: 0, incarnation: 1 });
  await until(() => !lives(Number(readFileSync(file, "utf8"))), "the command is gone");
  await until(() => it.prober.attemptsUnderWay === 0, "its place is free");
  assert.deepEqual(it.told, []);
  assert.deepEqual(it.counted, []);
});

test("a worker that is forgotten before it responds gets no verdict", async (context) => {
  const it = new Observed(context);
  let accepted = 0;
  const server = createServer((socket) => {
    accepted++;
    socket.resume().on("error", () => {});
  }).listen(0, "127.0.0.1");
  context.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const methods: readonly ProbeMethod[] = [
    { kind: "http", path: "/", port },
    { kind: "grpc", service: undefined, port },
  ];
  for (const [index, method] of methods.entries()) {
    it.prober.watch(target({ incarnation: index + 1, readiness: { method, policy: policy() } }));
    await until(() => accepted === index + 1, "the attempt has begun");
    it.prober.forget({ pool: 0, slot: 0, incarnation: index + 1 });
    assert.equal(it.prober.attemptsUnderWay, 0);
  }
  assert.deepEqual(it.told, []);
});

test("a probe without an address is an error of the controller", async (context) => {
  const it = new Observed(context);
  it.prober.watch(target({ readiness: { method: { kind: "tcp", port: undefined }, policy: policy() } }));
  await until(() => it.counted.length > 0, "an attempt was made");
  assert.equal(it.counted[0], "readiness error");
  assert.deepEqual(it.told, []);
});

test("a worker reports its own readiness", async (context) => {
  const it = new Observed(context, "echo >&$MONOCEROS_NOTIFY_FD; exec sleep 1000", true);
  const pid = it.scene.processes.begin({ pool: 0, slot: 0, incarnation: 1 }, 1)();
  const channels = it.scene.processes.channelsOf(pid);
  it.prober.watch(
    target({ pid, readiness: "notify", readinessChannel: channels && readinessChannelOf(channels, pid) }),
  );
  await it.hears("ready");
});
