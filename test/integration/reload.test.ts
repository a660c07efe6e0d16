/**
 * Reloads of the real executable: the plan, which workers are replaced, added and removed pools, keys that need a restart,
 * and new configurations that fail.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import type { ReloadAccepted } from "../../src/admin/api.ts";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf, untilGone } from "../support/controller.ts";
import { ENVOY } from "../support/envoy.ts";
import { freePort, freePorts } from "../support/ports.ts";
import { command, commandOk, envoyPid } from "../support/traffic.ts";
import { eventsOf, happened, readProc, shellPool, statusCode } from "../support/watch.ts";

/** A startup probe that always fails. */
const NEVER_UP = { probes: { startup: { exec: ["false"], period: "50ms" } } };
/** A min_ready time within which a crash makes the reload fail. */
const WATCHED = { rolling: { min_ready: "300ms" } };

type Keys = Readonly<Record<string, unknown>>;

const STAY = "exec sleep 1000";
const QUICK = { startup_wait_time: "0s", rolling: { min_ready: "0s" } };

function pool(name: string, more: Keys = {}, script = STAY): string {
  return shellPool(name, script, { ...QUICK, ...more });
}

function list(...pools: readonly string[]): string {
  return pools.join("\n");
}

/** A pool of processbin behind Envoy. Workers use ports from `firstPort` on. */
function proxied(name: string, listenerPort: number, firstPort: number, more: Keys = {}, server: Keys = {}): string {
  return poolOf({
    name,
    exec: PROCESSBIN,
    args: ["--host", "127.0.0.1"],
    ...QUICK,
    server: {
      port_arg: { name: "--port", value_template: "{{.Port}}", start_port: firstPort },
      listener_address: "127.0.0.1",
      listener_port: listenerPort,
      health_check_path: "/healthz",
      ...server,
    },
    ...more,
  });
}

/** A variable in a worker's initial environment. */
async function variable(controller: ControllerUnderTest, worker: string, name: string): Promise<string | undefined> {
  const pid = await controller.pidOf(worker);
  // A worker that is ready at once may not have executed its program yet.
  const entries = await eventually(() => {
    const found = readProc(pid, "environ").split("\0");
    return found.some((entry) => entry.startsWith("MONOCEROS_INCARNATION=")) ? found : undefined;
  }, `the environment of ${worker}`);
  return entries.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Pids of the workers of these pools, by id. */
async function pidsOf(controller: ControllerUnderTest, ...names: readonly string[]): Promise<Keys> {
  const all = Object.entries(await controller.pids());
  return Object.fromEntries(all.filter(([id]) => names.includes(id.slice(0, id.lastIndexOf("-")))));
}

async function poolNames(controller: ControllerUnderTest): Promise<string[]> {
  return (await controller.status()).pools.map(({ name }) => name);
}

/** Whether a process listens on the port. */
function isListening(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => done(true)).once("error", () => done(false));
    socket.once("close", () => socket.destroy());
    socket.once("connect", () => socket.destroy());
  });
}

test("a dry run prints the plan and changes nothing", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: list(pool("web", { env: { A: "1" } }), pool("old"), pool("same")),
  });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({
    workers: list(pool("web", { env: { A: "2" }, replicas: 3 }), pool("same"), pool("fresh")),
    supervisor: "  shutdown_timeout: 59s",
    address: "127.0.0.2",
  });
  const { stdout } = await commandOk(controller, "reload", "--dry-run");
  assert.match(stdout, /shutdown_timeout applies at once/u);
  assert.match(stdout, /pool "web": its workers are replaced because env changed/u);
  assert.match(stdout, /pool "web": replicas applies at once; no worker is replaced/u);
  assert.match(stdout, /pool "fresh" is added/u);
  assert.match(stdout, /pool "old" is removed/u);
  assert.match(stdout, /^admin\.address cannot be changed: needs a restart of the controller$/mu);
  assert.doesNotMatch(stdout, /same|refused/u);
  assert.match(stdout, /dry run: nothing was done/u);
  const { changes, operations } = JSON.parse(
    (await commandOk(controller, "reload", "--dry-run", "--json")).stdout,
  ) as ReloadAccepted;
  assert.deepEqual([changes.length, operations], [5, []]);
  assert.deepEqual(await controller.pids(), before);
  assert.deepEqual(eventsOf(controller, "operation_started"), []);
});

test("a change of env replaces the workers of its pool only; another key order or a comment replaces none", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: list(pool("web", { replicas: 2, env: { A: "1", B: "b" } }), pool("kept")),
  });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({
    workers: `${list(pool("web", { env: { B: "b", A: "1" }, replicas: 2 }), pool("kept"))}\n# a comment`,
  });
  assert.match((await commandOk(controller, "reload")).stdout, /nothing has changed/u);
  assert.deepEqual(await controller.pids(), before);
  controller.configure({ workers: list(pool("web", { replicas: 2, env: { A: "2", B: "b" } }), pool("kept")) });
  const { stdout } = await commandOk(controller, "reload");
  assert.match(stdout, /reload of pool "web" finished in .*, 2 of 2 workers/u);
  assert.deepEqual(await pidsOf(controller, "kept"), { "kept-0": before["kept-0"] });
  const web = await pidsOf(controller, "web");
  assert.equal(Object.keys(web).length, 2);
  for (const [id, pid] of Object.entries(web)) {
    assert.ok(!Object.values(before).includes(Number(pid)));
    assert.equal(await variable(controller, id, "A"), "2");
  }
  assert.deepEqual(eventsOf(controller, "pool_degraded"), []);
});

test("a change of policy keys replaces no worker and applies at once", async () => {
  await using controller = await ControllerUnderTest.start({
    workers: pool("web", { replicas: 2, signal_timeout: "9s" }),
  });
  await controller.ready();
  const before = await controller.pids();
  const changed = {
    replicas: 2,
    signal_timeout: "8s",
    stop_signal: "SIGINT",
    restart: { on_exhausted: "give-up-worker" },
  };
  controller.configure({ workers: pool("web", changed), supervisor: "  pre_stop_delay: 10ms" });
  const { stdout } = await commandOk(controller, "reload");
  assert.match(stdout, /no worker is replaced/u);
  assert.deepEqual(await controller.pids(), before);
  await commandOk(controller, "restart", "web-0");
  const stopping = await happened(controller, "stopping");
  assert.deepEqual([stopping.signal, stopping.graceMs], ["SIGINT", 8000]);
});

test("changed values in an env_file replace the workers of the pool, also together with policy keys", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("kept") });
  await controller.ready();
  const file = join(controller.directory, "web.env");
  writeFileSync(file, "COLOUR=red\n");
  const web = (more: Keys = {}) => list(pool("web", { env_file: file, ...more }), pool("kept"));
  controller.configure({ workers: web() });
  await commandOk(controller, "reload");
  assert.equal(await variable(controller, "web-0", "COLOUR"), "red");
  const kept = await pidsOf(controller, "kept");

  writeFileSync(file, "COLOUR=blue\n");
  const { stdout } = await commandOk(controller, "reload");
  assert.match(stdout, /env_file/u);
  assert.doesNotMatch(stdout, /blue|red/u);
  const [id = ""] = Object.keys(await pidsOf(controller, "web"));
  assert.equal(await variable(controller, id, "COLOUR"), "blue");

  writeFileSync(file, "COLOUR=green\n");
  controller.configure({ workers: web({ signal_timeout: "7s" }) });
  await commandOk(controller, "reload");
  const [next = ""] = Object.keys(await pidsOf(controller, "web"));
  assert.equal(await variable(controller, next, "COLOUR"), "green");
  assert.deepEqual(await pidsOf(controller, "kept"), kept);
});

test("pools can be added and removed repeatedly without affecting other workers", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  for (let turn = 1; turn <= 2; turn++) {
    controller.configure({ workers: list(pool("jobs", { replicas: 2, env: { TURN: turn } }), pool("web")) });
    await commandOk(controller, "reload");
    assert.deepEqual(Object.keys(await pidsOf(controller, "jobs")).sort(), ["jobs-0", "jobs-1"]);
    assert.equal(await variable(controller, "jobs-1", "TURN"), `${turn}`);
    assert.deepEqual(await pidsOf(controller, "web"), before);
    const pids = Object.values(await pidsOf(controller, "jobs")).map(Number);
    controller.configure({ workers: pool("web") });
    assert.match((await commandOk(controller, "reload")).stdout, /pool "jobs" is removed/u);
    assert.deepEqual(await poolNames(controller), ["web"]);
    for (const pid of pids) await untilGone(pid);
    assert.deepEqual(await controller.pids(), before);
  }
  assert.equal((await controller.status()).phase, "running");
});

test("removing a pool also stops its standby workers", async () => {
  const ports = await freePorts(8);
  const backed = proxied("backed", ports, ports + 1, { standby: 1 });
  await using controller = await ControllerUnderTest.start({ workers: list(pool("web"), backed) });
  await controller.ready();
  await happened(controller, "ready", ({ slot }) => slot === 1);
  assert.equal(Object.keys(await pidsOf(controller, "backed")).length, 2);
  controller.configure({ workers: pool("web") });
  await commandOk(controller, "reload");
  assert.deepEqual(await pidsOf(controller, "backed"), {});
});

test("removing a pool with a proxy stops its workers, then its Envoy, and frees all ports", async () => {
  const ports = await freePorts(8);
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  for (const algorithm of ["ROUND_ROBIN", "RANDOM"]) {
    const server = { load_balancer_algorithm: algorithm, listener_port: ports + (algorithm === "RANDOM" ? 1 : 0) };
    const shop = proxied("shop", ports, ports + 2, { replicas: 2 }, server);
    controller.configure({ workers: list(pool("web"), shop) });
    await commandOk(controller, "reload");
    assert.equal(await statusCode(server.listener_port, "/"), 200, algorithm);
    const envoy = envoyPid(controller);
    assert.ok(envoy !== undefined);
    const last = controller.events.length;
    controller.configure({ workers: pool("web") });
    await commandOk(controller, "reload");
    await happened(controller, "stopped", ({ pool, seq }) => pool === "shop-proxy" && seq > last);
    await untilGone(envoy);
    const stops = eventsOf(controller, "stopped").filter(({ seq }) => seq > last);
    assert.deepEqual(
      stops.map((event) => event.pool),
      ["shop", "shop", "shop-proxy"],
    );
    for (let port = ports; port < ports + 8; port++) assert.equal(await isListening(port), false, `port ${port}`);
    assert.deepEqual(await controller.pids(), before);
  }
});

test("a pool whose workers are all stopped can be removed with its Envoy, and added again", async () => {
  const ports = await freePorts(10);
  const web = proxied("web", ports, ports + 1);
  const other = pool("other");
  await using controller = await ControllerUnderTest.start({ workers: list(web, other) });
  await controller.ready();
  await commandOk(controller, "stop", "web");
  controller.configure({ workers: other });
  await commandOk(controller, "reload");
  await eventually(async () => ((await isListening(ports)) ? undefined : true), "its Envoy has exited");
  controller.configure({ workers: list(web, other) });
  await commandOk(controller, "reload");
  assert.equal(await statusCode(ports, "/"), 200);
});

test("a reload to a program that the kernel cannot execute fails each time, and the old workers stay", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-exec-"));
  const bad = join(directory.path, "bad");
  // An ELF file without a type passes the check of the configuration, but the kernel rejects it.
  const bytes = readFileSync("/bin/true");
  bytes.writeUInt16LE(0, 16);
  writeFileSync(bad, bytes, { mode: 0o755 });
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  const added = poolOf({ name: "new", exec: bad, ...QUICK });
  for (const workers of [poolOf({ name: "web", exec: bad, ...QUICK }), list(pool("web"), added)]) {
    controller.configure({ workers });
    for (let turn = 0; turn < 2; turn++) {
      const { code, stdout } = await command(controller, "reload");
      assert.equal(code, 1, stdout);
    }
    assert.deepEqual(await pidsOf(controller, "web"), before);
  }
});

test("removing a pool closes its shared socket", async () => {
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const shared = poolOf({
    name: "shared",
    exec: PROCESSBIN,
    ...QUICK,
    sockets: [{ name: "http", listen: `127.0.0.1:${port}` }],
  });
  for (let turn = 1; turn <= 2; turn++) {
    controller.configure({ workers: list(pool("web"), shared) });
    await commandOk(controller, "reload");
    assert.equal(await statusCode(port, "/"), 200);
    controller.configure({ workers: pool("web") });
    await commandOk(controller, "reload");
    assert.equal(await isListening(port), false);
  }
});

test("a reload reports keys that need a restart of the controller and applies all other changes", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({ port: await freePort(), workers: pool("web", { replicas: 2 }) });
  const { stdout } = await commandOk(controller, "reload");
  assert.match(stdout, /^admin\.port cannot be changed: needs a restart of the controller$/mu);
  const after = await pidsOf(controller, "web");
  assert.deepEqual([Object.keys(after).length, after["web-0"]], [2, before["web-0"]]);
  // It is reported again while the file differs from the configuration in force.
  const again = await commandOk(controller, "reload");
  assert.match(again.stdout, /nothing has changed\nadmin\.port cannot be changed/u);
});

test("if Envoy rejects a change the reload fails with the reason, the old settings stay, and the next reload retries", async () => {
  const ports = await freePorts(10);
  await using controller = await ControllerUnderTest.start({ workers: proxied("web", ports, ports + 1) });
  await controller.ready();
  const taken = createServer().listen(0, "127.0.0.1");
  await once(taken, "listening");
  const address = taken.address();
  assert.ok(typeof address === "object" && address !== null);
  try {
    controller.configure({ workers: proxied("web", address.port, ports + 1) });
    const { code, stdout, stderr } = await command(controller, "reload");
    assert.equal(code, 1, stdout);
    assert.match(
      stdout,
      /^supervisor\.workers\[0\]\.server was not changed: cannot bind .*: Address already in use$/mu,
    );
    assert.match(stderr, /Cannot apply all changes: supervisor\.workers\[0\]\.server: cannot bind/u);
    assert.equal(await statusCode(ports, "/"), 200);
  } finally {
    taken.close();
  }
  await once(taken, "close");
  await commandOk(controller, "reload");
  assert.equal(await statusCode(address.port, "/"), 200);
});

test("a start_port whose range overlaps ports in use is rejected, and a free range is applied", async () => {
  const ports = await freePorts(10);
  await using controller = await ControllerUnderTest.start({
    workers: list(proxied("web", ports, ports + 1, { replicas: 2 }), pool("other")),
  });
  await controller.ready();
  const before = await controller.pids();
  const moved = proxied("web", ports, ports + 2, { replicas: 2 });
  controller.configure({ workers: list(moved, pool("other", { replicas: 2 })) });
  const { stdout } = await commandOk(controller, "reload");
  assert.match(
    stdout,
    new RegExp(
      `start_port cannot be changed: ports ${ports + 2} to ${ports + 4} overlap ports ${ports + 1} to ${ports + 3} .*"web"`,
      "u",
    ),
  );
  const { "other-1": added, ...others } = await controller.pids();
  assert.deepEqual(others, before);
  assert.notEqual(added, undefined, "the other pool is scaled");
  controller.configure({ workers: list(proxied("web", ports, ports + 4, { replicas: 2 }), pool("other")) });
  await commandOk(controller, "reload");
  assert.equal(await statusCode(ports, "/"), 200);
  for (const port of [ports + 1, ports + 2, ports + 3]) assert.equal(await isListening(port), false, `port ${port}`);
});

test("an invalid file changes nothing, and the command prints all problems with their positions", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  writeFileSync(
    controller.configFile,
    "supervisor:\n  wrokers: []\n  workers:\n    - {name: web, exec: sleep, replicas: 0}\n",
  );
  const { code, stderr } = await command(controller, "reload");
  assert.equal(code, 78);
  assert.match(stderr, /config\.yaml:2:3: .*wrokers/u);
  assert.match(stderr, /config\.yaml:4:\d+: supervisor\.workers\[0\]\.replicas/u);
  assert.deepEqual(await controller.pids(), before);
});

test("a reload whose new workers crash fails with exit code 1 and is rolled back, and the next reload retries", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web", { replicas: 2 }) });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({ workers: pool("web", { replicas: 2, ...WATCHED }, "exit 3") });
  for (let turn = 1; turn <= 2; turn++) {
    const { code, stderr } = await command(controller, "reload");
    assert.equal(code, 1);
    assert.match(stderr, /reload of pool "web"/u);
    assert.deepEqual(await controller.pids(), before, `turn ${turn}`);
    assert.equal(eventsOf(controller, "operation_failed").length, turn);
  }
  // The old configuration is in force, so a killed worker is restarted with it.
  process.kill(Number(before["web-0"]), "SIGKILL");
  await happened(controller, "ready", ({ slot, incarnation }) => slot === 0 && incarnation > 1);
  controller.configure({ workers: pool("web", { replicas: 2 }) });
  assert.match((await commandOk(controller, "reload")).stdout, /nothing has changed/u);
  controller.configure({ workers: pool("web", { replicas: 2, env: { A: "1" } }) });
  await commandOk(controller, "reload");
  assert.equal(eventsOf(controller, "operation_finished").length, 1);
});

test("a reload of a pool whose workers never become ready does not wait for them", async () => {
  const hangs = { probes: { startup: { exec: ["false"], period: "50ms", failure_threshold: 1_000_000 } } };
  await using controller = await ControllerUnderTest.start({ workers: pool("web", { ...hangs, replicas: 2 }) });
  await happened(controller, "spawned", () => true, 2);
  controller.configure({ workers: pool("web", { replicas: 2, env: { A: "1" } }) });
  const { stdout } = await commandOk(controller, "reload");
  assert.match(stdout, /web/u);
  assert.deepEqual(
    Object.keys(await pidsOf(controller, "web")).map((id) => id.slice(0, 4)),
    ["web-", "web-"],
  );
  assert.deepEqual(eventsOf(controller, "backing_off"), []);
});

test("a reload whose new workers hang after they were ready fails, and replaced workers return to the old revision", async () => {
  const startup = { exec: ["sleep", "0.3"], period: "100ms", timeout: "5s" };
  const liveness = { exec: ["false"], period: "50ms", failure_threshold: 2 };
  const of = (a: string, probes: Keys) => pool("web", { replicas: 3, env: { A: a }, probes });
  await using controller = await ControllerUnderTest.start({ workers: of("0", { startup }) });
  await controller.ready();
  controller.configure({ workers: of("1", { startup, liveness }) });
  const { code, stdout, stderr } = await command(controller, "reload");
  assert.equal(code, 1, stdout);
  assert.match(stderr, /liveness failed 2 times in a row/u);
  await eventually(async () => {
    const ids = Object.entries(await controller.pids());
    const values = await Promise.all(ids.map(([id]) => variable(controller, id, "A").catch(() => undefined)));
    return values.length === 3 && values.every((value) => value === "0") ? true : undefined;
  }, "all three workers have the old environment");
});

test("a reload of an unhealthy pool makes its running operation fail", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-ready-"));
  const flag = join(directory.path, "flag");
  writeFileSync(flag, "");
  const of = (name: string) =>
    pool("web", { replicas: 2, probes: { readiness: { exec: ["test", "-e", name], period: "50ms" } } });
  await using controller = await ControllerUnderTest.start({ workers: of(flag) });
  await controller.ready();
  rmSync(flag);
  await happened(controller, "unready", () => true, 2);
  const scale = command(controller, "scale", "web", "3");
  await happened(controller, "operation_started");
  controller.configure({ workers: of(directory.path) });
  await commandOk(controller, "reload");
  const { code, stderr } = await scale;
  assert.equal(code, 1);
  assert.match(stderr, /the pool is not healthy; reload-1 takes precedence/u);
  assert.equal((await controller.status()).pools[0]?.ready, 3);
});

test("a new pool that does not start is removed, and the next reload retries", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({ workers: list(pool("web"), pool("bad", { max_restarts: 0, ...NEVER_UP }, "exit 3")) });
  for (let turn = 1; turn <= 2; turn++) {
    const { code, stdout } = await command(controller, "reload");
    assert.equal(code, 1);
    assert.match(stdout, /pool "bad" is added/u);
    await happened(controller, "operation_finished", ({ pool }) => pool === "bad", turn);
    assert.deepEqual(await poolNames(controller), ["web"]);
  }
  assert.deepEqual(await controller.pids(), before);
  controller.configure({ workers: list(pool("web"), pool("bad")) });
  await commandOk(controller, "reload");
  assert.equal(Object.keys(await pidsOf(controller, "bad")).length, 1);
});

test("if new workers do not start, the proxy returns to its old settings too", async () => {
  const ports = await freePorts(8);
  await using controller = await ControllerUnderTest.start({ workers: proxied("web", ports, ports + 2) });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({
    workers: proxied(
      "web",
      ports,
      ports + 2,
      { args: ["--exit-after", "0", "--exit-code", "3"] },
      { listener_port: ports + 1 },
    ),
  });
  assert.equal((await command(controller, "reload")).code, 1);
  // The failed successor may still be exiting when the failure is reported.
  await eventually(
    async () => (isDeepStrictEqual(await controller.pids(), before) ? true : undefined),
    "only the old workers run",
  );
  await eventually(async () => ((await isListening(ports)) ? true : undefined), "Envoy listens on the old port again");
  assert.equal(await statusCode(ports, "/"), 200);
});

test("two reloads run one after another, and the second configuration is in force at the end", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web", { env: { A: "0" } }) });
  await controller.ready();
  const answers = [];
  for (const value of ["1", "2"]) {
    controller.configure({ workers: pool("web", { env: { A: value } }) });
    answers.push(JSON.parse((await controller.call("POST", "/v1/reload")).body) as ReloadAccepted);
  }
  const ids = answers.flatMap(({ operations }) => operations.map(({ id }) => id));
  assert.equal(new Set(ids).size, 2);
  for (const id of ids) await happened(controller, "operation_finished", ({ operation }) => operation === id);
  const order = controller.events.flatMap((event) =>
    "operation" in event ? [`${event.kind} ${event.operation}`] : [],
  );
  const ended = order.indexOf(`operation_finished ${ids[0]}`);
  assert.ok(ended >= 0 && ended < order.indexOf(`operation_started ${ids[1]}`), order.join(", "));
  const [id = ""] = Object.keys(await controller.pids());
  assert.equal(await variable(controller, id, "A"), "2");
  // Of two simultaneous reloads the second one finds nothing to change.
  controller.configure({ workers: pool("web", { env: { A: "3" } }) });
  const both = await Promise.all([controller.call("POST", "/v1/reload"), controller.call("POST", "/v1/reload")]);
  const plans = both.map(({ body }) => JSON.parse(body) as ReloadAccepted);
  assert.deepEqual(
    plans.map(({ operations }) => operations.length),
    [1, 0],
  );
});

test("the controller restarts workers and serves while a reload waits for Envoy's check", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-slow-"));
  const [exec, gate, reached] = ["envoy", "gate", "reached"].map((name) => join(directory.path, name)) as [
    string,
    string,
    string,
  ];
  const wait = `case "$*" in *validate*) if [ -e ${gate} ]; then : > ${reached}; while [ -e ${gate} ]; do sleep 0.02; done; fi;; esac`;
  writeFileSync(exec, `#!/bin/sh\n${wait}\nexec ${ENVOY} "$@"\n`, { mode: 0o755 });
  const ports = await freePorts(6);
  const web = (more: Keys) => proxied("web", ports, ports + 1, more, { exec });
  await using controller = await ControllerUnderTest.start({ workers: web({}) });
  await controller.ready();
  const [pid] = Object.values(await pidsOf(controller, "web"));
  writeFileSync(gate, "");
  controller.configure({ workers: web({ env: { A: "1" } }) });
  const reload = command(controller, "reload");
  await eventually(() => (existsSync(reached) ? true : undefined), "Envoy checks the configuration");
  process.kill(pid as number, "SIGKILL");
  await happened(controller, "ready", ({ slot, incarnation }) => slot === 0 && incarnation === 2);
  assert.equal(await statusCode(ports, "/"), 200);
  assert.deepEqual(eventsOf(controller, "operation_started"), []);
  rmSync(gate);
  const { code, stderr } = await reload;
  assert.equal(code, 0, stderr);
  const [id = ""] = Object.keys(await pidsOf(controller, "web"));
  assert.equal(await variable(controller, id, "A"), "1");
});

test("a renamed pool with the same ports starts after the old pool has stopped", async () => {
  const ports = await freePorts(8);
  await using controller = await ControllerUnderTest.start({
    workers: proxied("web", ports, ports + 1, { replicas: 2 }),
  });
  await controller.ready();
  const envoy = envoyPid(controller);
  assert.ok(envoy !== undefined);
  controller.configure({ workers: proxied("shop", ports, ports + 1, { replicas: 2 }) });
  const { stdout } = await commandOk(controller, "reload");
  assert.match(stdout, /reload of pool "shop" finished/u);
  assert.deepEqual(await poolNames(controller), ["shop", "shop-proxy"]);
  assert.equal(await statusCode(ports, "/"), 200);
  const lastStop = await happened(controller, "stopped", ({ pool }) => pool === "web-proxy");
  const first = await happened(controller, "spawned", ({ pool }) => pool.startsWith("shop"));
  assert.ok(lastStop.seq < first.seq);
  await untilGone(envoy);
  assert.ok(!controller.stderr.some((line) => line.includes("backing_off")));
});

test("a renamed pool with the same shared socket starts after the old pool has stopped", async () => {
  const path = (controller: ControllerUnderTest) => join(controller.directory, "app.sock");
  const shared = (name: string, socket: string) =>
    poolOf({ name, exec: PROCESSBIN, ...QUICK, sockets: [{ name: "http", listen: socket }] });
  await using controller = await ControllerUnderTest.start({ workers: pool("other") });
  await controller.ready();
  controller.configure({ workers: list(pool("other"), shared("web", path(controller))) });
  await commandOk(controller, "reload");
  controller.configure({ workers: list(pool("other"), shared("shop", path(controller))) });
  await commandOk(controller, "reload");
  assert.deepEqual((await poolNames(controller)).sort(), ["other", "shop"]);
  assert.ok(existsSync(path(controller)));
});

test("a pool that is added again while it is still stopping starts afterwards, with the latest configuration", async () => {
  const slow = 'trap "sleep 0.6; exit 0" TERM; while :; do sleep 0.05; done';
  await using controller = await ControllerUnderTest.start({ workers: list(pool("web"), pool("slow", {}, slow)) });
  await controller.ready();
  controller.configure({ workers: pool("web") });
  await commandOk(controller, "reload", "--no-wait");
  controller.configure({ workers: list(pool("web"), pool("slow", { env: { A: "1" } }, STAY)) });
  await commandOk(controller, "reload", "--no-wait");
  controller.configure({ workers: list(pool("web"), pool("slow", { env: { A: "2" } }, STAY)) });
  await commandOk(controller, "reload");
  assert.equal((await controller.status()).phase, "running");
  const [id = ""] = Object.keys(await pidsOf(controller, "slow"));
  assert.equal(await variable(controller, id, "A"), "2");
});

test("a shutdown is graceful while a new pool waits for an old one to stop", async () => {
  const slow = 'trap "" TERM; while :; do sleep 0.05; done';
  const port = await freePort();
  const named = (name: string) =>
    pool(name, { signal_timeout: "700ms", sockets: [{ name: "a", listen: `127.0.0.1:${port}` }] }, slow);
  await using controller = await ControllerUnderTest.start({ workers: list(pool("web"), named("one")) });
  await controller.ready();
  controller.configure({ workers: list(pool("web"), named("two")) });
  await commandOk(controller, "reload", "--no-wait");
  assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  assert.deepEqual(
    eventsOf(controller, "spawned").filter(({ pool }) => pool === "two"),
    [],
  );
  await happened(controller, "operation_failed", ({ pool }) => pool === "two");
});

test("a reload without changes affects none of 500 workers", async () => {
  const many = poolOf({ name: "web", exec: "sleep", args: ["1000"], replicas: 500, startup_wait_time: "0s" });
  await using controller = await ControllerUnderTest.start({ workers: many });
  await controller.ready();
  const before = await controller.pids();
  assert.equal(Object.keys(before).length, 500);
  const last = controller.events.length;
  assert.match((await commandOk(controller, "reload")).stdout, /nothing has changed/u);
  assert.deepEqual(await controller.pids(), before);
  assert.deepEqual(
    controller.events.slice(last).map(({ kind }) => kind),
    ["audited"],
  );
});
