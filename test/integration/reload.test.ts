/**
 * Reload on the real executable: the plan, what is touched and what is not, pools that come and go, what cannot change,
 * and what happens where the new configuration does not work.
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

/** No startup probe of it ever succeeds. */
const NEVER_UP = { probes: { startup: { exec: ["false"], period: "50ms" } } };
/** What shows a worker that ends at once: one that runs so long is taken for a success. */
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

/** A pool of processbin behind Envoy; workers take ports from `firstPort` on. */
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

/** The variable of a worker as it was started. */
async function variable(controller: ControllerUnderTest, worker: string, name: string): Promise<string | undefined> {
  const pid = await controller.pidOf(worker);
  // A worker that is ready at once may not run its program yet.
  const entries = await eventually(() => {
    const found = readProc(pid, "environ").split("\0");
    return found.some((entry) => entry.startsWith("MONOCEROS_INCARNATION=")) ? found : undefined;
  }, `the environment of ${worker}`);
  return entries.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1);
}

/** Only what belongs to these pools, as `pool-slot: pid`. */
async function pidsOf(controller: ControllerUnderTest, ...names: readonly string[]): Promise<Keys> {
  const all = Object.entries(await controller.pids());
  return Object.fromEntries(all.filter(([id]) => names.includes(id.slice(0, id.lastIndexOf("-")))));
}

async function poolNames(controller: ControllerUnderTest): Promise<string[]> {
  return (await controller.status()).pools.map(({ name }) => name);
}

/** Whether anybody listens there. */
function isListening(port: number): Promise<boolean> {
  return new Promise((done) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => done(true)).once("error", () => done(false));
    socket.once("close", () => socket.destroy());
    socket.once("connect", () => socket.destroy());
  });
}

test("a dry run prints the plan and does nothing", async () => {
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

test("a change of env rolls only its pool, an order of keys or a comment rolls nothing", async () => {
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

test("a change of policy touches no process, and holds from then on", async () => {
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

test("other words in an env_file roll its pool, also together with a change of policy", async () => {
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

test("a pool is added and removed again, added once more, and each time nobody else is touched", async () => {
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

test("a pool with a spare leaves with it", async () => {
  const ports = await freePorts(8);
  const spared = proxied("spared", ports, ports + 1, { standby: 1 });
  await using controller = await ControllerUnderTest.start({ workers: list(pool("web"), spared) });
  await controller.ready();
  await happened(controller, "ready", ({ slot }) => slot === 1);
  assert.equal(Object.keys(await pidsOf(controller, "spared")).length, 2);
  controller.configure({ workers: pool("web") });
  await commandOk(controller, "reload");
  assert.deepEqual(await pidsOf(controller, "spared"), {});
});

test("a pool with a proxy comes and goes: its Envoy ends after its workers, and all ports are free again", async () => {
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

test("a pool whose workers are all stopped leaves with its Envoy, and comes back", async () => {
  const ports = await freePorts(10);
  const web = proxied("web", ports, ports + 1);
  const other = pool("other");
  await using controller = await ControllerUnderTest.start({ workers: list(web, other) });
  await controller.ready();
  await commandOk(controller, "stop", "web");
  controller.configure({ workers: other });
  await commandOk(controller, "reload");
  await eventually(async () => ((await isListening(ports)) ? undefined : true), "its Envoy is gone");
  controller.configure({ workers: list(web, other) });
  await commandOk(controller, "reload");
  assert.equal(await statusCode(ports, "/"), 200);
});

test("a program that the system does not take fails the reload each time, and all is as it was", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-exec-"));
  const bad = join(directory.path, "bad");
  // A program of no type: it passes the check of the configuration, and the kernel refuses it.
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

test("a socket that a removed pool shared is free again", async () => {
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

test("what cannot change live is refused and said, and everything else is applied", async () => {
  await using controller = await ControllerUnderTest.start({ workers: pool("web") });
  await controller.ready();
  const before = await controller.pids();
  controller.configure({ port: await freePort(), workers: pool("web", { replicas: 2 }) });
  const { stdout } = await commandOk(controller, "reload");
  assert.match(stdout, /^admin\.port cannot be changed: needs a restart of the controller$/mu);
  const after = await pidsOf(controller, "web");
  assert.deepEqual([Object.keys(after).length, after["web-0"]], [2, before["web-0"]]);
  // It is said again as long as the file and what is in force differ.
  const again = await commandOk(controller, "reload");
  assert.match(again.stdout, /nothing has changed\nadmin\.port cannot be changed/u);
});

test("what the proxy does not take over is a failure with its reason, leaves all as it was and is tried again", async () => {
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

test("ports that running workers still have are refused for their successors; others are moved to", async () => {
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
  assert.notEqual(added, undefined, "the other pool is changed");
  controller.configure({ workers: list(proxied("web", ports, ports + 4, { replicas: 2 }), pool("other")) });
  await commandOk(controller, "reload");
  assert.equal(await statusCode(ports, "/"), 200);
  for (const port of [ports + 1, ports + 2, ports + 3]) assert.equal(await isListening(port), false, `port ${port}`);
});

test("an invalid file changes nothing, and the command shows every problem with its place", async () => {
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

test("a reload whose successor does not start is off with exit code 1, the old configuration holds, the next one tries again", async () => {
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
  // What is in force is what was before: a worker that dies comes back as it was.
  process.kill(Number(before["web-0"]), "SIGKILL");
  await happened(controller, "ready", ({ slot, incarnation }) => slot === 0 && incarnation > 1);
  controller.configure({ workers: pool("web", { replicas: 2 }) });
  assert.match((await commandOk(controller, "reload")).stdout, /nothing has changed/u);
  controller.configure({ workers: pool("web", { replicas: 2, env: { A: "1" } }) });
  await commandOk(controller, "reload");
  assert.equal(eventsOf(controller, "operation_finished").length, 1);
});

test("a reload that repairs a pool whose workers never come up does not wait for them", async () => {
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

test("a reload whose workers start and then hang is off, who was replaced goes back too, and a repair waits for nothing", async () => {
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
  }, "all three are as before");
});

test("a reload of a pool that is not healthy gives up what waits there", async () => {
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

test("a new pool that does not start is removed again, and the next reload tries again", async () => {
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

test("where workers do not start with it, the proxy goes back to its old settings as well", async () => {
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
  // The successor that failed may still be on its way out when the failure is told.
  await eventually(
    async () => (isDeepStrictEqual(await controller.pids(), before) ? true : undefined),
    "only those of before run",
  );
  await eventually(async () => ((await isListening(ports)) ? true : undefined), "the old port is back");
  assert.equal(await statusCode(ports, "/"), 200);
});

test("two reloads at once wait for one another, and the pool ends as the last file says", async () => {
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
  // Asked for in the same moment, each sees what the one before has left.
  controller.configure({ workers: pool("web", { env: { A: "3" } }) });
  const both = await Promise.all([controller.call("POST", "/v1/reload"), controller.call("POST", "/v1/reload")]);
  const plans = both.map(({ body }) => JSON.parse(body) as ReloadAccepted);
  assert.deepEqual(
    plans.map(({ operations }) => operations.length),
    [1, 0],
  );
});

test("while Envoy checks what is new, for however long, everything else goes on", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-slow-"));
  const [exec, gate, asked] = ["envoy", "gate", "asked"].map((name) => join(directory.path, name)) as [
    string,
    string,
    string,
  ];
  const wait = `case "$*" in *validate*) if [ -e ${gate} ]; then : > ${asked}; while [ -e ${gate} ]; do sleep 0.02; done; fi;; esac`;
  writeFileSync(exec, `#!/bin/sh\n${wait}\nexec ${ENVOY} "$@"\n`, { mode: 0o755 });
  const ports = await freePorts(6);
  const web = (more: Keys) => proxied("web", ports, ports + 1, more, { exec });
  await using controller = await ControllerUnderTest.start({ workers: web({}) });
  await controller.ready();
  const [pid] = Object.values(await pidsOf(controller, "web"));
  writeFileSync(gate, "");
  controller.configure({ workers: web({ env: { A: "1" } }) });
  const reload = command(controller, "reload");
  await eventually(() => (existsSync(asked) ? true : undefined), "Envoy is asked");
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

test("a pool that is renamed and keeps all its ports begins when the old one is gone", async () => {
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
  const gone = await happened(controller, "stopped", ({ pool }) => pool === "web-proxy");
  const first = await happened(controller, "spawned", ({ pool }) => pool.startsWith("shop"));
  assert.ok(gone.seq < first.seq);
  await untilGone(envoy);
  assert.ok(!controller.stderr.some((line) => line.includes("backing_off")));
});

test("a pool that is renamed and keeps its shared socket begins when the old one is gone", async () => {
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

test("a pool that comes back while the one of its name still leaves waits for it, whatever is asked meanwhile", async () => {
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

test("a shutdown while a new pool waits for an old one ends in order", async () => {
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

test("a reload without changes touches none of 500 workers", async () => {
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
