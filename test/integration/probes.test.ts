/** Probes on the real executable: who hangs, boots slowly, flaps, fails together with all others, or is only busy. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, isAlive, PROCESSBIN, poolOf } from "../support/controller.ts";
import { describeLoad, type Failure } from "../support/loadReport.ts";
import { freePorts } from "../support/ports.ts";
import { assertNoneFailed, commandOk, proxyPool, underTraffic } from "../support/traffic.ts";
import { eventsOf, happened, msBetween, shellPool } from "../support/watch.ts";

type Keys = Readonly<Record<string, unknown>>;

/** Envoy works on other endpoints within milliseconds; on a busy machine somewhat more. */
const PUBLISHED_MS = 200;

/** A file that is there or not, for commands to look at. */
class Gate {
  readonly path: string;

  constructor(context: TestContext) {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-gate-"));
    this.path = join(directory, "gate");
    context.after(() => rmSync(directory, { recursive: true, force: true }));
  }

  open(suffix = ""): void {
    writeFileSync(this.path + suffix, "");
  }

  close(suffix = ""): void {
    rmSync(this.path + suffix, { force: true });
  }
}

/** One worker that listens on `port`, without a proxy. */
function served(name: string, port: number, args: readonly string[], probes: Keys, more: Keys = {}): string {
  return poolOf({
    name,
    exec: PROCESSBIN,
    args: ["--host", "127.0.0.1", "--port", port, ...args],
    startup_wait_time: "0s",
    probes,
    ...more,
  });
}

function attempts(controller: ControllerUnderTest, pool: string, probe: string, result: string): Promise<number> {
  return controller.metric(`monoceros_probe_attempts_total{pool="${pool}",probe="${probe}",result="${result}"}`);
}

/** Asks and does not wait for an answer that may never come. */
function poke(port: number, path: string): void {
  get({ host: "127.0.0.1", port, path, agent: false }, (response) => response.resume()).on("error", () => {});
}

const HANGS: Readonly<Record<string, (pid: number, port: number) => void>> = {
  SIGSTOP: (pid) => process.kill(pid, "SIGSTOP"),
  "a deadlock": (_, port) => poke(port, "/hang"),
  "a busy loop": (_, port) => poke(port, "/spin"),
};

for (const [what, hang] of Object.entries(HANGS)) {
  test(`a worker that hangs by ${what} is detected in time and replaced, and no new request fails [H1]`, async () => {
    const liveness = { http: { path: "/healthz" }, period: "300ms", timeout: "300ms", failure_threshold: 2 };
    const { workers, target } = await proxyPool({
      replicas: 3,
      more: { probes: { liveness }, signal_timeout: "300ms", max_restarts: 0 },
      server: { drain_timeout: "500ms" },
    });
    assert.ok("port" in target);
    await using controller = await ControllerUnderTest.start({ workers });
    await controller.ready();
    const pid = await controller.pidOf("web-1");
    let hungAt = 0;
    const reports = await underTraffic(
      target,
      async () => {
        hungAt = Date.now();
        // Slot n listens n ports above the first, which follows the listener's.
        hang(pid, target.port + 2);
        await happened(controller, "stopped", ({ slot, incarnation }) => slot === 1 && incarnation === 1);
        await controller.until(() => eventsOf(controller, "ready").length >= 4, "a fourth worker was ready");
      },
      { requests: [{ path: "/sleep?ms=20" }] },
    );
    const unready = await happened(controller, "unready");
    assert.deepEqual([unready.slot, unready.incarnation], [1, 1]);
    const tookMs = Date.parse(unready.time) - hungAt;
    assert.ok(tookMs <= 2 * 300 + 1000, `found after ${tookMs} ms`);
    assert.match(
      unready.reason,
      /liveness failed 2 times in a row: GET http:\S+: no answer within 300ms; .*\bpid\b|threads?|state/u,
    );
    assert.equal(isAlive(pid), false);
    for (const report of Object.values(reports)) {
      const late = report.failures.filter(({ sentAt }: Failure) => sentAt > Date.parse(unready.time) + PUBLISHED_MS);
      assert.deepEqual(late, [], describeLoad(report));
      assert.ok(report.counts.ok > 100);
      assert.equal(report.counts.refused + report.counts.connectFailed, 0);
    }
    assert.deepEqual(eventsOf(controller, "unready").length, 1, "nobody else is doubted");
    assert.deepEqual(eventsOf(controller, "backing_off"), [], "it is no crash");
  });
}

test("a worker that starts slowly is not killed while its startup probe allows it [H2]", async () => {
  const port = await freePorts(2);
  const probe = { http: { path: "/healthz", port }, period: "100ms", timeout: "100ms" };
  const probes = { startup: { ...probe, failure_threshold: 100 }, liveness: { ...probe, failure_threshold: 1 } };
  await using controller = await ControllerUnderTest.start({
    workers: served("web", port, ["--slow-boot", "1s"], probes),
  });
  const ready = await happened(controller, "ready");
  assert.ok(ready.afterMs >= 1000, `${ready.afterMs} ms`);
  await eventually(
    async () => ((await attempts(controller, "web", "liveness", "success").catch(() => 0)) >= 3 ? true : undefined),
    "liveness has been asked three times",
  );
  assert.ok((await attempts(controller, "web", "startup", "refused")) >= 3);
  assert.deepEqual([...eventsOf(controller, "unready"), ...eventsOf(controller, "stopping")], []);
});

test("a flapping probe has no effect below its thresholds and causes no restart at them [H3]", async () => {
  const port = await freePorts(2);
  const readiness = (each: number, threshold: number) => ({
    readiness: { http: { path: "/readyz", port: each }, period: "50ms", failure_threshold: threshold },
  });
  await using controller = await ControllerUnderTest.start({
    workers: [
      served("steady", port, ["--flap-health", "2"], readiness(port, 3)),
      served("shaky", port + 1, ["--flap-health", "2"], readiness(port + 1, 2)),
    ].join("\n"),
  });
  await controller.ready();
  await happened(controller, "unready", ({ pool }) => pool === "shaky", 3);
  await eventually(
    async () => ((await attempts(controller, "steady", "readiness", "failure")) >= 6 ? true : undefined),
    "the other one has failed as often",
  );
  assert.deepEqual(
    eventsOf(controller, "unready").filter(({ pool }) => pool === "steady"),
    [],
  );
  const [first] = eventsOf(controller, "unready");
  assert.match(first?.reason ?? "", /readiness failed 2 times in a row: GET http:\S+: HTTP 503/u);
  assert.deepEqual(eventsOf(controller, "exited"), []);
});

test("when all workers fail together only a few are replaced, and all recover once the cause ends [H4]", async (context) => {
  const gate = new Gate(context);
  gate.open();
  const liveness = { exec: ["test", "-e", gate.path], period: "250ms", failure_threshold: 2 };
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", "exec sleep 1000", {
      replicas: 8,
      startup_wait_time: "0s",
      probes: { liveness },
      max_restarts: 0,
    }),
  });
  await controller.ready();
  const before = Object.values(await controller.pids());
  gate.close();
  await happened(controller, "unready", () => true, 8);
  // A quarter may go, the others wait for a proof that this helps: the cool-down is 1.75 s.
  await happened(controller, "stopped", () => true, 2);
  const failed = await happened(controller, "unready", ({ incarnation, slot }) => incarnation > 1 || slot > 7);
  assert.match(failed.reason, /command exited with code 1/u);
  // Whether by a successor or, where the first is still on its way out, in place.
  const replaced = eventsOf(controller, "stopping").filter(
    ({ cause, seq }) => cause === "liveness" && seq < failed.seq,
  );
  assert.equal(replaced.length, 2, "two of eight are replaced before anything is proved");
  gate.open();
  await happened(controller, "pool_recovered");
  const after = await eventually(async () => {
    const { pools } = await controller.status();
    return pools[0]?.ready === 8 ? controller.pids() : undefined;
  }, "all eight are ready");
  const kept = Object.values(after).filter((pid) => before.includes(pid));
  assert.ok(kept.length >= 4, `${kept.length} of 8 were left alone`);
  assert.deepEqual(eventsOf(controller, "killed"), []);
  assert.deepEqual(eventsOf(controller, "backing_off"), []);
});

test("behind a proxy, failed workers that wait for replacement continue to serve [H4]", async (context) => {
  const gate = new Gate(context);
  gate.open();
  const liveness = { exec: ["test", "-e", gate.path], period: "100ms", failure_threshold: 2 };
  const { workers, target } = await proxyPool({ replicas: 6, more: { probes: { liveness } } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const reports = await underTraffic(
    target,
    async () => {
      gate.close();
      await happened(controller, "unready", () => true, 6);
      await happened(controller, "stopped", ({ incarnation }) => incarnation === 1, 2);
      gate.open();
      await happened(controller, "pool_recovered");
    },
    { requests: [{ path: "/sleep?ms=10" }] },
  );
  assertNoneFailed(reports);
});

test("reasons and the metric distinguish refused connections, timeouts and error responses [H5]", async () => {
  const port = await freePorts(3);
  const startup = (each: number, delay = "0s") => ({
    startup: {
      http: { path: "/healthz", port: each },
      initial_delay: delay,
      period: "100ms",
      timeout: "100ms",
      failure_threshold: 3,
    },
  });
  const more = { restart: { backoff: { initial: "10s" } } };
  await using controller = await ControllerUnderTest.start({
    workers: [
      served("refused", port, ["--slow-boot", "1h"], startup(port), more),
      served("silent", port + 1, ["--hang"], startup(port + 1, "1s"), { ...more, signal_timeout: "100ms" }),
      served("broken", port + 2, ["--never-ready"], startup(port + 2, "1s"), more),
    ].join("\n"),
  });
  const reasons: Record<string, RegExp> = {
    refused: /startup failed 3 times in a row: GET http:\S+: connection refused \(ECONNREFUSED\)/u,
    silent: /startup failed 3 times in a row: GET http:\S+: no answer within 100ms/u,
    broken: /startup failed 3 times in a row: GET http:\S+: HTTP 503/u,
  };
  for (const [name, reason] of Object.entries(reasons)) {
    const stopping = await happened(controller, "stopping", ({ pool }) => pool === name);
    assert.equal(stopping.cause, "startup");
    assert.match(stopping.reason, reason);
  }
  assert.ok((await attempts(controller, "refused", "startup", "refused")) >= 3);
  assert.ok((await attempts(controller, "silent", "startup", "timeout")) >= 2);
  assert.ok((await attempts(controller, "broken", "startup", "failure")) >= 1);
});

test("a long blocking request does not fail liveness if timeout or threshold allow it [H6]", async () => {
  const port = await freePorts(2);
  const liveness = (each: number, more: Keys) => ({
    startup: { http: { path: "/healthz", port: each }, period: "50ms", failure_threshold: 100 },
    liveness: { http: { path: "/healthz", port: each }, period: "100ms", ...more },
  });
  await using controller = await ControllerUnderTest.start({
    workers: [
      served("patient", port, [], liveness(port, { timeout: "30s", failure_threshold: 1 })),
      served("tolerant", port + 1, [], liveness(port + 1, { timeout: "50ms", failure_threshold: 100 })),
    ].join("\n"),
  });
  await controller.ready();
  for (const name of ["patient", "tolerant"])
    await eventually(
      async () => ((await attempts(controller, name, "liveness", "success").catch(() => 0)) > 0 ? true : undefined),
      `${name} is alive`,
    );
  const blocked = [port, port + 1].map(
    (each) =>
      new Promise<number>((done, fail) => {
        get({ host: "127.0.0.1", port: each, path: "/block?ms=1200", agent: false }, (response) => {
          response.resume().on("end", () => done(response.statusCode ?? 0));
        }).on("error", fail);
      }),
  );
  assert.deepEqual(await Promise.all(blocked), [200, 200]);
  assert.ok((await attempts(controller, "tolerant", "liveness", "timeout")) >= 3);
  await assert.rejects(attempts(controller, "patient", "liveness", "timeout"), /no series/u);
  assert.deepEqual([...eventsOf(controller, "unready"), ...eventsOf(controller, "stopping")], []);
});

test("readiness removes a worker from load balancing and returns it, without a failed request or a restart", async (context) => {
  const out = new Gate(context);
  const readiness = {
    exec: ["sh", "-c", `test ! -e ${out.path}-$MONOCEROS_SLOT`],
    period: "100ms",
    failure_threshold: 1,
  };
  const startup = { http: { path: "/healthz" }, period: "50ms", failure_threshold: 100 };
  const { workers, target } = await proxyPool({ replicas: 3, more: { probes: { startup, readiness } } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const before = await controller.pids();
  let without: Readonly<Record<string, number>> = {};
  const requests = [{ path: "/sleep?ms=10" }];
  const reports = await underTraffic(
    target,
    async () => {
      out.open("-1");
      await happened(controller, "unready", ({ slot }) => slot === 1);
      assert.equal((await controller.worker("web-1")).phase, "unready");
      await new Promise((wake) => setTimeout(wake, PUBLISHED_MS));
      without = (await underTraffic(target, async () => {}, { requests, keptAlive: 4, fresh: 4 })).keptAlive.workers;
      out.close("-1");
      await eventually(
        async () => ((await controller.worker("web-1")).phase === "ready" ? true : undefined),
        "it is ready again",
      );
      const back = await underTraffic(target, async () => {}, { requests, keptAlive: 6, fresh: 4 });
      assert.ok((back.keptAlive.workers["web-1"] ?? 0) > 0, "it gets requests again");
    },
    { requests },
  );
  assertNoneFailed(reports);
  assert.deepEqual(Object.keys(without).sort(), ["web-0", "web-2"]);
  assert.deepEqual(await controller.pids(), before);
  // Who is out of the balance for long has nothing to finish any more.
  out.open("-1");
  await happened(controller, "unready", ({ slot }) => slot === 1, 2);
  await new Promise((wake) => setTimeout(wake, PUBLISHED_MS));
  await commandOk(controller, "stop", "web-1");
  const drained = await happened(controller, "drained");
  assert.ok(drained.afterMs < 10_000, `${drained.afterMs} ms of the 30 s that it might take`);
});

test("a worker whose readiness command succeeds before it listens gets no requests", async () => {
  const { workers, target } = await proxyPool({
    replicas: 1,
    args: ["--slow-boot", "700ms"],
    more: { probes: { readiness: { exec: ["/bin/true"], period: "50ms" } } },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  assertNoneFailed(await underTraffic(target, async () => {}));
});

test("a worker reports its own readiness, and a worker that never does is not replaced", async () => {
  const notifying = shellPool("web", "sleep 0.3; echo >&$MONOCEROS_NOTIFY_FD; exec sleep 1000", {
    probes: { readiness: { notify: true } },
  });
  const silent = shellPool("silent", "exec sleep 1000", { probes: { readiness: { notify: true } } });
  await using controller = await ControllerUnderTest.start({ workers: [notifying, silent].join("\n") });
  const ready = await happened(controller, "ready");
  assert.equal(ready.pool, "web");
  assert.equal((await controller.worker("silent-0")).phase, "starting");
  assert.equal((await controller.status()).ready, false);
});

/** A server of the gRPC health protocol: SERVING unless the file is there. */
const GRPC_SERVER = `
const { createServer } = require("node:http2");
const { existsSync } = require("node:fs");
createServer().on("stream", (stream) => {
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(Buffer.from([0, 0, 0, 0, 2, 8, existsSync(process.argv[2]) ? 2 : 1]));
}).listen(Number(process.argv[1]), "127.0.0.1");`;

test("a gRPC server is probed by the health protocol", async (context) => {
  const gate = new Gate(context);
  const port = await freePorts(1);
  const readiness = { grpc: { port, service: "shop" }, period: "100ms", failure_threshold: 1 };
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      exec: process.execPath,
      args: ["-e", GRPC_SERVER, port, gate.path],
      probes: { readiness },
    }),
  });
  await controller.ready();
  gate.open();
  assert.match((await happened(controller, "unready")).reason, /NOT_SERVING/u);
  gate.close();
  await eventually(
    async () => ((await controller.worker("web-0")).phase === "ready" ? true : undefined),
    "it is ready again",
  );
  assert.deepEqual(eventsOf(controller, "exited"), []);
});

test("a failed startup counts as a crash, with backoff, restart limit and exit code", async () => {
  const port = await freePorts(1);
  const startup = { http: { path: "/healthz", port }, period: "50ms", failure_threshold: 2 };
  await using controller = await ControllerUnderTest.start({
    workers: served(
      "web",
      port,
      ["--never-ready"],
      { startup },
      {
        max_restarts: 2,
        restart: { backoff: { initial: "300ms", jitter: 0 } },
      },
    ),
  });
  assert.deepEqual(await controller.ended, { code: 1, signal: null });
  await controller.until(() => eventsOf(controller, "controller_stopped").length > 0, "all events are there");
  const stops = eventsOf(controller, "stopping");
  assert.deepEqual(
    stops.map(({ cause }) => cause),
    ["startup", "startup", "startup"],
  );
  const [, second, third] = eventsOf(controller, "spawned");
  const [, exited] = eventsOf(controller, "exited");
  assert.ok(second !== undefined && third !== undefined && exited !== undefined);
  assert.ok(msBetween(exited, third) >= 295, "the second restart waits");
  assert.equal(eventsOf(controller, "gave_up").length, 1);
});
