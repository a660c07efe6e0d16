/** With root as controller Envoy has a user of its own, out of reach for workers, and everything works as with one user. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { request as tlsRequest } from "node:https";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { EventRecord } from "../../src/admin/api.ts";
import { TEST_CERTIFICATE, TEST_KEY } from "../support/certificate.ts";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf } from "../support/controller.ts";
import { freePort, freePorts } from "../support/ports.ts";

const WORKER_UID = 12_345;

/** The ids that are given to Envoy. */
const isEnvoyId = (id: number) => id >= 65_520 && id <= 65_533;

const isRoot = process.getuid?.() === 0;
const skip = isRoot ? false : "needs root";

/** A pool of processbin on Unix sockets behind Envoy, with workers of another user. */
function onSockets(port: number, server: object = {}, changes: Readonly<Record<string, unknown>> = {}): string {
  return poolOf({
    name: "web",
    replicas: 2,
    exec: PROCESSBIN,
    user: WORKER_UID,
    server: { socket_arg: { name: "--socket" }, listener_port: port, ...server },
    ...changes,
  });
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One request on a connection of its own. */
function ask(port: number, path = "/", method = "GET", isTls = false): Promise<Answer> {
  return new Promise((done, fail) => {
    const options = { host: "127.0.0.1", port, path, method, agent: false, rejectUnauthorized: false };
    const call = (isTls ? tlsRequest : request)(options, (response: IncomingMessage) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => done({ status: response.statusCode ?? 0, body }));
      response.on("error", fail);
    });
    call.on("error", fail);
    call.end();
  });
}

/** Runs a shell command as the workers' user; returns its exit code and what it wrote. */
function asWorker(command: string, uid = WORKER_UID): { readonly code: number | null; readonly output: string } {
  const ids = ["--reuid", String(uid), "--regid", String(uid), "--clear-groups"];
  const { status, stdout, stderr } = spawnSync("setpriv", [...ids, "/bin/sh", "-c", command], { encoding: "utf8" });
  return { code: status, output: `${stdout}${stderr}` };
}

/** The four ids, or the set, in a line of /proc/<pid>/status. */
function idsOf(pid: number, key: string): number[] {
  const line = new RegExp(`^${key}:\\s+(.*)$`, "mu").exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? "";
  return line.trim().split(/\s+/u).filter(Boolean).map(Number);
}

/** The path of a worker's socket, from its command line. */
async function socketOf(controller: ControllerUnderTest, id: string): Promise<string> {
  const path = readFileSync(`/proc/${await controller.pidOf(id)}/cmdline`, "utf8").split("\0")[2] ?? "";
  assert.match(path, /\.sock$/u);
  return path;
}

async function envoyOf(controller: ControllerUnderTest): Promise<number> {
  return controller.pidOf("web-proxy-0");
}

/** A directory below which other users may pass. */
function sharedDirectory(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-user-"));
  chmodSync(directory, 0o711);
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Its records of a level; not those about processes that another test was killed too early to end. */
const logsOf = (controller: ControllerUnderTest, level: string) =>
  controller.stderr.filter((line) => line.includes(`"level":"${level}"`) && !line.includes(" is left over: "));

for (const place of ["port", "socket"] as const) {
  test(`workers on a ${place} can neither signal nor trace the Envoy in front of them`, { skip }, async () => {
    const ports = await freePorts(5);
    const server =
      place === "socket" ? {} : { socket_arg: undefined, port_arg: { name: "--port", start_port: ports + 1 } };
    await using controller = await ControllerUnderTest.start({ workers: onSockets(ports, server) });
    await controller.ready();
    assert.equal((await ask(ports)).status, 200);
    const [envoy, worker] = [await envoyOf(controller), await controller.pidOf("web-0")];
    const uids = idsOf(envoy, "Uid");
    const [uid = 0] = uids;
    assert.ok(isEnvoyId(uid) && new Set([...uids, ...idsOf(envoy, "Gid"), ...idsOf(envoy, "Groups")]).size === 1);
    // CAP_NET_BIND_SERVICE alone.
    assert.match(readFileSync(`/proc/${envoy}/status`, "utf8"), /^CapEff:\s+0*400$/mu);
    assert.equal(idsOf(await controller.pidOf("web-0"), "Uid")[0], WORKER_UID);
    // Opening the memory of a process takes the right to trace it.
    const traces = (pid: number) => asWorker(`exec 3</proc/${pid}/mem`).code === 0;
    assert.deepEqual([traces(worker), traces(envoy)], [true, false]);
    for (const signal of ["0", "STOP", "TERM", "KILL"]) {
      const { code, output } = asWorker(`kill -${signal} ${envoy}`);
      assert.notEqual(code, 0, signal);
      assert.match(output, /not permitted/iu);
    }
    assert.equal((await ask(ports)).status, 200);
    assert.equal(await envoyOf(controller), envoy);
    assert.deepEqual(logsOf(controller, "warn"), []);
  });
}

test("a worker cannot redirect clients to the control socket by replacing its socket with a symlink", {
  skip,
}, async () => {
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({ workers: onSockets(port, { worker_keepalive: "1ms" }) });
  await controller.ready();
  const path = await socketOf(controller, "web-0");
  assert.equal(asWorker(`rm ${path} && ln -s ${controller.socket} ${path} && test -L ${path}`).code, 0);
  for (let call = 0; call < 20; call++) {
    const { body } = await ask(port, "/v1/shutdown", "POST");
    assert.ok(!body.includes("ACCESS_DENIED") && !body.includes("shutdown"), body);
  }
  const unready = await controller.event((event) => event.kind === "unready" && event.slot === 0);
  assert.ok(unready.message.includes(path), unready.message);
  assert.equal((await ask(port)).status, 200, "the other worker serves");
  assert.equal((await controller.status()).phase, "running");
});

test("a worker whose socket is a symlink from the start never gets traffic", {
  skip,
}, async (context) => {
  const port = await freePort();
  const directory = sharedDirectory(context);
  const program = join(directory, "link.sh");
  writeFileSync(program, '#!/bin/sh\nln -s "$CONTROL" "$2"\nexec sleep 1000\n');
  chmodSync(program, 0o755);
  const socket = join(directory, "control.sock");
  await using controller = await ControllerUnderTest.start({
    socket,
    workers: onSockets(port, {}, { replicas: 1, exec: program, env: { CONTROL: socket } }),
  });
  await controller.event((event) => event.kind === "ready" && event.pool === "web-proxy");
  const waiting = await controller.event(
    (event) => event.kind === "waiting" && /not a process of/u.test(event.message),
  );
  assert.match(waiting.message, /0\.sock/u);
  assert.equal((await ask(port, "/v1/shutdown", "POST")).status, 503);
  assert.equal((await controller.worker("web-0")).phase, "starting");
});

test("Envoy may not use the control socket, whatever its user", { skip }, async () => {
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({
    workers: onSockets(port, { worker_keepalive: "1ms" }, { replicas: 1, user: undefined }),
  });
  await controller.ready();
  assert.equal(idsOf(await envoyOf(controller), "Uid")[0], 0);
  const path = await socketOf(controller, "web-0");
  assert.equal(asWorker(`rm ${path} && ln -s ${controller.socket} ${path}`, 0).code, 0);
  const answer = await eventually(async () => {
    const found = await ask(port, "/v1/shutdown", "POST");
    return found.status === 403 ? found : undefined;
  }, "a connection follows the symlink");
  assert.match(answer.body, /ACCESS_DENIED.*Envoy may not use the control socket/u);
  assert.equal((await ask(port, "/metrics")).status, 403);
  assert.equal((await controller.status()).phase, "running");
  const warnings = logsOf(controller, "warn").filter((line) => line.includes("refused Envoy"));
  assert.equal(warnings.length, 1, warnings.join("\n"));
});

test("a worker whose socket is linked for the proxy may bind its socket again", { skip }, async () => {
  const port = await freePort();
  const serve = `
    const { createServer } = require("node:http");
    const { chmodSync } = require("node:fs");
    const path = process.argv[1];
    const bind = (name) => {
      const server = createServer((_, response) => response.end(name)).listen(path, () => chmodSync(path, 0o700));
      server.keepAliveTimeout = 5000;
      return server;
    };
    const first = bind("first");
    process.on("SIGUSR2", () => {
      first.close(() => bind("second"));
      first.closeAllConnections();
    });`;
  const directory = mkdtempSync(join(tmpdir(), "monoceros-user-"));
  chmodSync(directory, 0o755);
  const file = join(directory, "serve.cjs");
  writeFileSync(file, serve.replace("process.argv[1]", "process.argv[2]"));
  try {
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({
        name: "web",
        exec: process.execPath,
        user: WORKER_UID,
        server: { socket_arg: { name: file }, listener_port: port, worker_keepalive: "1ms" },
      }),
    });
    await controller.ready();
    assert.equal((await ask(port)).body, "first", "though the server allows its own user alone");
    process.kill(await controller.pidOf("web-0"), "SIGUSR2");
    await eventually(async () => ((await ask(port)).body === "second" ? true : undefined), "the new socket is linked");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test("a reload that changes the user of the workers keeps Envoy and its user, and requests continue", {
  skip,
}, async () => {
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({ workers: onSockets(port, {}, { user: undefined }) });
  await controller.ready();
  const envoy = await envoyOf(controller);
  for (const user of [WORKER_UID, 65_520, undefined]) {
    controller.configure({ workers: onSockets(port, {}, { user }) });
    const { body } = await controller.call("POST", "/v1/reload");
    const { id } = (JSON.parse(body) as { operations: { id: string }[] }).operations[0] ?? {};
    const ended = (kind: string) => (event: EventRecord) =>
      event.kind === kind && "operation" in event && event.operation === id;
    await controller.event(ended("operation_finished"));
    assert.equal((await ask(port)).status, 200);
    assert.equal(idsOf(await controller.pidOf("web-0"), "Uid")[0], user ?? 0);
    assert.deepEqual([await envoyOf(controller), idsOf(envoy, "Uid")[0]], [envoy, 0]);
  }
});

test("the open streams of a stopping worker are closed, even if Envoy runs as another user", {
  skip,
}, async (context) => {
  const port = await freePort();
  const directory = sharedDirectory(context);
  const program = join(directory, "stream.cjs");
  // It ends when its last stream has ended.
  const serve = `
    const server = require("node:http").createServer((_, response) => response.write("begun"));
    server.listen(process.argv[2]);
    process.on("SIGTERM", () => server.close());`;
  writeFileSync(program, serve, { mode: 0o644 });
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      exec: process.execPath,
      user: WORKER_UID,
      signal_timeout: "20s",
      server: {
        socket_arg: { name: program, value_template: "{{.Socket}}" },
        listener_port: port,
        drain_timeout: "50ms",
      },
    }),
  });
  await controller.ready();
  const begun = await new Promise<IncomingMessage>((done, fail) => {
    const call = request({ host: "127.0.0.1", port, agent: false }, (response) => {
      response.on("error", () => {});
      response.once("data", () => done(response));
    });
    call.on("error", fail);
    call.end();
  });
  context.after(() => begun.destroy());
  await controller.call("POST", "/v1/workers/web-0/stop");
  const exited = await controller.event((event) => event.kind === "exited" && event.pool === "web");
  assert.ok(
    controller.stderr.some((line) => line.includes("still had 1 connection to its proxy")),
    exited.message,
  );
});

test("a key that only root may read is copied for Envoy alone, and renewed", {
  skip,
}, async (context) => {
  const port = await freePort();
  const directory = sharedDirectory(context);
  const [cert, key] = [join(directory, "cert.pem"), join(directory, "key.pem")];
  writeFileSync(cert, TEST_CERTIFICATE, { mode: 0o600 });
  writeFileSync(key, TEST_KEY, { mode: 0o600 });
  const pool = (paths: object, changes: object = {}) => onSockets(port, { tls: { cert, key, ...paths }, ...changes });
  await using controller = await ControllerUnderTest.start({
    supervisor: `  runtime_dir: ${directory}/run`,
    workers: pool({}),
  });
  await controller.ready();
  assert.equal((await ask(port, "/", "GET", true)).status, 200);
  const tls = join(directory, "run", readdirSync(join(directory, "run"))[0] ?? "", "web", "envoy", "tls");
  const [uid = 0] = idsOf(await envoyOf(controller), "Uid");
  const copies = () => readdirSync(tls).toSorted();
  const before = copies();
  assert.equal(before.length, 2);
  for (const name of before)
    assert.deepEqual([statSync(join(tls, name)).uid, statSync(join(tls, name)).mode & 0o777], [uid, 0o600]);
  assert.deepEqual([statSync(key).uid, statSync(key).mode & 0o777], [0, 0o600]);
  assert.notEqual(asWorker(`cat ${tls}/*.key ${tls}/${before.find((name) => name.endsWith(".key"))}`).code, 0);

  const renewed = join(directory, "renewed.pem");
  writeFileSync(renewed, `${TEST_CERTIFICATE}\n# renewed\n`, { mode: 0o600 });
  controller.configure({ workers: pool({ cert: renewed }, { load_balancer_algorithm: "RANDOM" }) });
  const envoy = await envoyOf(controller);
  const reload = await controller.call("POST", "/v1/reload");
  assert.deepEqual([reload.status, (JSON.parse(reload.body) as { failed: unknown }).failed], [202, []], reload.body);
  assert.equal((await ask(port, "/", "GET", true)).status, 200);
  assert.equal(await envoyOf(controller), envoy, "Envoy was updated and not restarted");
  const after = copies();
  assert.equal(after.length, 2);
  assert.notDeepEqual(after, before);

  // What is new under the same name is taken by the next Envoy.
  writeFileSync(renewed, `${TEST_CERTIFICATE}\n# renewed again\n`, { mode: 0o600 });
  process.kill(envoy, "SIGKILL");
  await controller.event((event) => event.kind === "ready" && event.pool === "web-proxy" && event.incarnation === 2);
  assert.equal((await ask(port, "/", "GET", true)).status, 200);
  await eventually(
    () => copies().length === 2 && String(copies()) !== String(after),
    "the renewed certificate is used",
  );
  assert.equal(idsOf(await envoyOf(controller), "Uid")[0], uid);
});

test("Envoy as another user writes its access log and is reconfigured, also with umask 077", {
  skip,
}, async (context) => {
  const ports = await freePorts(2);
  const directory = sharedDirectory(context);
  await using controller = await ControllerUnderTest.start({
    wrapper: ["sh", "-c", 'umask 077; exec "$@"', "sh"],
    workers: onSockets(ports, { access_log: true, proxy_config_path: `${directory}/envoy` }),
  });
  await controller.ready();
  assert.equal((await ask(ports, "/?seen")).status, 200);
  await controller.until(
    () => controller.stdout.some((line) => line.includes('"path":"/?seen"') && line.includes("web-proxy")),
    "the line of the access log",
  );
  controller.configure({
    workers: onSockets(ports + 1, {
      access_log: true,
      proxy_config_path: `${directory}/envoy`,
      health_check_path: "/healthz",
      max_headers: 500,
    }),
  });
  const { body } = await controller.call("POST", "/v1/reload");
  assert.deepEqual((JSON.parse(body) as { failed: unknown }).failed, [], body);
  assert.equal((await ask(ports + 1)).status, 200);
  assert.deepEqual(logsOf(controller, "warn"), []);
});

test("Envoy may listen on a port below 1024, at the start and after a reload", { skip }, async () => {
  const [first, second] = [await lowPort(600), await lowPort(800)];
  await using controller = await ControllerUnderTest.start({ workers: onSockets(first) });
  await controller.ready();
  assert.equal((await ask(first)).status, 200);
  controller.configure({ workers: onSockets(second) });
  const { body } = await controller.call("POST", "/v1/reload");
  assert.deepEqual((JSON.parse(body) as { failed: unknown }).failed, [], body);
  assert.equal((await ask(second)).status, 200);
});

test("a port below 1024 that the controller may not bind is refused with the missing capability", {
  skip,
}, async () => {
  const { ending, stderr } = await ControllerUnderTest.run({
    wrapper: ["setpriv", "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"],
    workers: onSockets(await lowPort(700)),
  });
  assert.equal(ending.code, 1);
  assert.match(stderr.join("\n"), /EACCES[\s\S]*CAP_NET_BIND_SERVICE/u);
});

/** A free port from `from` on. */
async function lowPort(from: number): Promise<number> {
  for (let port = from; port < 1024; port++) {
    const server = createServer();
    const isFree = await new Promise<boolean>((done) => {
      server.once("error", () => done(false));
      server.listen(port, "0.0.0.0", () => done(true));
    });
    await new Promise((done) => server.close(done));
    if (isFree) return port;
  }
  throw new Error("no port is free");
}

test("root without the required capabilities runs Envoy as root, with one warning that names them", {
  skip,
}, async () => {
  const ports = await freePorts(4);
  await using controller = await ControllerUnderTest.start({
    wrapper: ["setpriv", "--bounding-set=-fowner,-kill", "--inh-caps=-fowner,-kill"],
    workers: onSockets(
      ports,
      { socket_arg: undefined, port_arg: { name: "--port", start_port: ports + 1 } },
      {
        // Without CAP_KILL root cannot stop workers of another user; they end with their input.
        args: ["--exit-after", "3"],
        restart: { policy: "never", expected_exit_codes: [0], on_exhausted: "give-up-worker" },
      },
    ),
  });
  await controller.ready();
  assert.equal((await ask(ports)).status, 200);
  assert.equal(idsOf(await envoyOf(controller), "Uid")[0], 0);
  const warnings = logsOf(controller, "warn").filter((line) => line.includes("runs as root"));
  assert.equal(warnings.length, 1, controller.stderr.join("\n"));
  assert.match(warnings[0] ?? "", /CAP_FOWNER, CAP_KILL/u);
  await eventually(async () => ((await controller.status()).pools[0]?.ready === 0 ? true : undefined), "workers ended");
});

test("in front of root workers Envoy runs as root, with a note, unless server.user is set", {
  skip,
}, async () => {
  const ports = await freePorts(2);
  await using plain = await ControllerUnderTest.start({ workers: onSockets(ports, {}, { user: undefined }) });
  await plain.ready();
  assert.equal(idsOf(await envoyOf(plain), "Uid")[0], 0);
  assert.equal(logsOf(plain, "info").filter((line) => line.includes('proxy of pool \\"web\\" runs as root')).length, 1);
  assert.deepEqual(logsOf(plain, "warn"), []);
  await using chosen = await ControllerUnderTest.start({
    workers: onSockets(ports + 1, { user: "nobody" }, { user: undefined }),
  });
  await chosen.ready();
  assert.equal((await ask(ports + 1)).status, 200);
  assert.equal(idsOf(await envoyOf(chosen), "Uid")[0], 65_534);
});

test("without root Envoy runs as the controller's user, and another server.user is refused", {
  skip,
}, async (context) => {
  const port = await freePort();
  const directory = sharedDirectory(context);
  chownSync(directory, 65_534, 65_534);
  const wrapper = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"];
  const options = {
    wrapper: ["sh", "-c", `exec ${wrapper.join(" ")} "$@" < /dev/null`, "sh"],
    env: { TMPDIR: directory },
  };
  const pool = (server: object) => onSockets(port, server, { user: undefined });
  await using controller = await startAsNobody(directory, { ...options, workers: pool({}) });
  await controller.ready();
  assert.equal((await ask(port)).status, 200);
  assert.equal(idsOf(await envoyOf(controller), "Uid")[0], 65_534);
  assert.deepEqual(logsOf(controller, "warn"), []);
  controller.configure({ workers: pool({ user: 12_345 }) });
  const { status, body } = await controller.call("POST", "/v1/reload");
  assert.equal(status, 409, body);
  assert.match(body, /as uid 12345: the controller runs as uid 65534, expected root.*PERMISSION_REQUIRED/u);
});

/** Its configuration is readable for all, and its control socket is where nobody may make it. */
async function startAsNobody(directory: string, options: Parameters<typeof ControllerUnderTest.start>[0]) {
  const shell = `chmod -R a+rX "$(dirname "$3")"; ${options.wrapper?.[2]}`;
  return ControllerUnderTest.start({
    ...options,
    socket: join(directory, "control.sock"),
    wrapper: ["sh", "-c", shell, "sh"],
  });
}

test("without a writable directory the start fails and names what to mount and where", { skip }, async () => {
  const port = await freePort();
  const readOnly = (more: string, options: object = {}) =>
    ControllerUnderTest.run({
      // A file system of its own for /run, which nothing can be written to.
      wrapper: ["unshare", "--mount", "sh", "-c", `mount -t tmpfs -o ro none /run && exec "$@"`, "sh"],
      env: { TMPDIR: "/run" },
      workers: onSockets(port, {}, { user: undefined }),
      supervisor: more,
      ...options,
    });
  const plain = await readOnly("");
  const said = plain.stderr.join("\n");
  assert.equal(plain.ending.code, 78, said);
  assert.match(said, /neither "\/run\/monoceros" \(EROFS\) nor "\/run" \(EROFS\) is writable/u);
  assert.match(said, /Mount a writable volume, such as an emptyDir, at \/run, or set supervisor\.runtime_dir/u);
  assert.doesNotMatch(said, /a bug|at .*\.ts:/u);
  const configured = await readOnly("  runtime_dir: /run/mine");
  assert.equal(configured.ending.code, 78);
  assert.match(configured.stderr.join("\n"), /neither "\/run\/mine" \(EROFS\)/u);
  const files = await readOnly("", {
    workers: onSockets(
      port,
      { proxy_config_path: "/run/envoy", socket_arg: undefined, start_port: port + 1 },
      { user: undefined, replicas: 1 },
    ),
  });
  assert.equal(files.ending.code, 78, files.stderr.join("\n"));
  assert.match(files.stderr.join("\n"), /"\/run\/envoy\/web" \(EROFS\)[\s\S]*proxy_config_path/u);
});

test("a directory that Envoy or a worker may not enter is reported before anything starts", {
  skip,
}, async (context) => {
  const port = await freePort();
  const closed = mkdtempSync(join(tmpdir(), "monoceros-user-"));
  context.after(() => rmSync(closed, { recursive: true, force: true }));
  const { ending, stderr } = await ControllerUnderTest.run({
    supervisor: `  runtime_dir: ${closed}/run`,
    workers: onSockets(port),
  });
  assert.equal(ending.code, 78);
  assert.ok(stderr.join("\n").includes(`cannot enter directory "${closed}"`), stderr.join("\n"));
  mkdirSync(join(closed, "bin"));
  const envoy = join(closed, "bin", "envoy");
  writeFileSync(envoy, '#!/bin/sh\necho "envoy  version: 0/1.40.0/Clean/RELEASE/BoringSSL"\n', { mode: 0o755 });
  const other = await ControllerUnderTest.run({ workers: onSockets(port, { exec: envoy }) });
  assert.equal(other.ending.code, 78);
  assert.match(other.stderr.join("\n"), /ENVOY_NOT_EXECUTABLE/u);
  assert.ok(other.stderr.join("\n").includes(`to which "${closed}" is closed`), other.stderr.join("\n"));
});
