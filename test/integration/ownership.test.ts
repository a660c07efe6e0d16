/** Only a pool's own processes make a worker ready. A foreign process at its address is named and receives no traffic. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf } from "../support/controller.ts";
import { freePort, freePorts } from "../support/ports.ts";

/** A pool of processbin behind Envoy. */
function proxied(startPort: number, listenerPort: number, changes: Record<string, unknown> = {}): string {
  return poolOf({
    name: "web",
    exec: PROCESSBIN,
    server: { port_arg: { name: "--port", start_port: startPort }, listener_port: listenerPort },
    ...changes,
  });
}

/** A foreign process that serves HTTP at a port, with further flags of processbin. */
async function startForeign(context: TestContext, port: number, ...flags: readonly string[]): Promise<ChildProcess> {
  const child = spawn(PROCESSBIN, ["--port", String(port), ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  context.after(() => child.kill("SIGKILL"));
  assert.ok(child.stdout !== null);
  await once(child.stdout, "data");
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await once(child, "exit");
}

/** Sends a request to a port. Returns the id of the worker that answers, or the status. */
function ask(port: number): Promise<string> {
  return new Promise((done, fail) => {
    const call = request({ host: "127.0.0.1", port, agent: false }, (response) => {
      response.resume();
      response.on("end", () => done(String(response.headers["x-worker-id"] ?? response.statusCode)));
    });
    call.on("error", fail);
    call.end();
  });
}

test("a start fails if a foreign process uses a port of its workers, and the error names the process", async (context) => {
  const ports = await freePorts(4);
  // The last port is for successors.
  const { pid } = await startForeign(context, ports + 2);
  const { ending, stderr } = await ControllerUnderTest.run({ workers: proxied(ports, ports + 3, { replicas: 2 }) });
  assert.deepEqual(ending, { code: 1, signal: null });
  assert.match(
    stderr.join("\n"),
    new RegExp(`port ${ports + 2} \\(of worker ports ${ports} to ${ports + 2}\\) .* pid ${pid} \\(`, "u"),
  );
});

test("a worker is not spawned if its port is in use, and the failed operation names the process", async (context) => {
  const ports = await freePorts(4);
  await using controller = await ControllerUnderTest.start({ workers: proxied(ports, ports + 3, { replicas: 2 }) });
  await controller.ready();
  await controller.call("POST", "/v1/workers/web-1/stop");
  await controller.event((event) => event.kind === "stopped" && event.slot === 1);
  const rival = await startForeign(context, ports + 1);
  await controller.call("POST", "/v1/workers/web-1/start");
  const failed = await controller.event((event) => event.kind === "operation_failed");
  assert.ok(
    "reason" in failed && failed.reason.includes(`port ${ports + 1} is held by pid ${rival.pid} (`),
    failed.message,
  );
  for (let request = 0; request < 20; request++) assert.match(await ask(ports + 3), /web-0$/u);
  await end(rival);
  await controller.event((event) => event.kind === "ready" && event.slot === 1 && event.incarnation > 1);
});

test("a foreign process that shares the port of a ready worker makes it unready until it exits", async (context) => {
  const ports = await freePorts(4);
  await using controller = await ControllerUnderTest.start({
    workers: proxied(ports, ports + 3, { replicas: 2, args: ["--reuseport"] }),
  });
  await controller.ready();
  const rival = await startForeign(context, ports, "--reuseport");
  const unready = await controller.event((event) => event.kind === "unready" && event.slot === 0);
  assert.ok(
    unready.message.includes(`pid ${rival.pid} (`) && unready.message.includes(`127.0.0.1:${ports}`),
    unready.message,
  );
  for (let request = 0; request < 20; request++) assert.match(await ask(ports + 3), /web-1$/u);
  await end(rival);
  await eventually(
    async () => ((await controller.worker("web-0")).phase === "ready" ? true : undefined),
    "web-0 is ready",
  );
  assert.equal((await controller.worker("web-0")).waits_for, null, "a ready worker waits for nothing");
});

test("a foreign process's answer to a probe does not make a worker ready", async (context) => {
  const server = createServer((_, response) => response.end("well"));
  const port = await freePort();
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  context.after(() => server.close());
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "idle",
      exec: "sleep",
      args: [1000],
      probes: { readiness: { http: { port }, period: "100ms" } },
    }),
  });
  const waiting = await controller.event((event) => event.kind === "waiting");
  assert.ok(
    waiting.message.includes(`pid ${process.pid} (`) && waiting.message.includes("not a process of this worker"),
    waiting.message,
  );
  assert.equal((await controller.worker("idle-0")).phase, "starting");
  assert.match((await controller.worker("idle-0")).waits_for ?? "", /none of its processes is listening/u);
});

test("waits_for contains the probed address, the result, and where the worker's processes listen", async () => {
  const ports = await freePorts(3);
  await using controller = await ControllerUnderTest.start({
    workers: proxied(ports, ports + 2, {
      args: ["--host", "127.0.0.2"],
      probes: { startup: { http: { path: "/healthz" }, period: "100ms", failure_threshold: 20 } },
    }),
  });
  const waiting = await controller.event((event) => event.kind === "waiting");
  const description = `GET http://127.0.0.1:${ports}/healthz: connection refused (ECONNREFUSED); its processes listen on 127.0.0.2:${ports}`;
  assert.ok(waiting.message.includes(description), waiting.message);
  assert.ok((await controller.worker("web-0")).waits_for?.includes(description));
  const failed = await controller.event((event) => event.kind === "stopping" && event.cause === "startup");
  assert.ok(failed.message.includes(description), failed.message);
});

test("waits_for shows the HTTP status of a failed probe at once", async () => {
  const ports = await freePorts(3);
  await using controller = await ControllerUnderTest.start({
    workers: proxied(ports, ports + 2, {
      args: ["--never-ready"],
      probes: { readiness: { http: { path: "/readyz" }, period: "100ms" } },
    }),
  });
  const answer = await eventually(async () => {
    const { waits_for } = await controller.worker("web-0");
    return waits_for?.includes("HTTP 503") ? waits_for : undefined;
  }, "waits_for shows the status");
  assert.ok(answer.startsWith(`GET http://127.0.0.1:${ports}/readyz: HTTP 503`), answer);
});

test("without permission to inspect the workers, probes decide about readiness, with one warning", async (context) => {
  if (process.getuid?.() !== 0) return context.skip("needs root");
  const ports = await freePorts(4);
  const directory = mkdtempSync(join(tmpdir(), "monoceros-owner-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  await using controller = await ControllerUnderTest.start({
    wrapper: ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"],
    workers: proxied(ports, ports + 3, { replicas: 2, user: "nobody" }),
  });
  await controller.ready();
  assert.match(await ask(ports + 3), /web-[01]$/u);
  const warnings = controller.stderr.filter((line) => line.includes("CAP_SYS_PTRACE"));
  assert.equal(warnings.length, 1, warnings.join("\n"));
});

test("a second controller with the same worker ports does not start", async () => {
  const ports = await freePorts(5);
  await using first = await ControllerUnderTest.start({ workers: proxied(ports, ports + 3, { replicas: 2 }) });
  await first.ready();
  const { ending, stderr } = await ControllerUnderTest.run({ workers: proxied(ports, ports + 4, { replicas: 2 }) });
  assert.equal(ending.code, 1);
  assert.ok(stderr.join("\n").includes(`pid ${await first.pidOf("web-0")} (`), stderr.join("\n"));
});

/** Two workers behind Envoy on Unix sockets, and the path of web-0's socket. */
async function onUnixSockets(port: number): Promise<{ controller: ControllerUnderTest; path: string }> {
  const controller = await ControllerUnderTest.start({
    workers: poolOf({
      name: "web",
      replicas: 2,
      exec: PROCESSBIN,
      server: { socket_arg: { name: "--socket" }, listener_port: port },
    }),
  });
  await controller.ready();
  const path = readFileSync(`/proc/${await controller.pidOf("web-0")}/cmdline`, "utf8").split("\0")[2] ?? "";
  assert.match(path, /0\.sock$/u);
  return { controller, path };
}

for (const form of ["absolute", "relative"] as const) {
  test(`a foreign process that replaces a worker's Unix socket at its ${form} path receives no traffic`, async (context) => {
    const port = await freePort();
    const opened = await onUnixSockets(port);
    await using controller = opened.controller;
    const { path } = opened;
    rmSync(path);
    const where = form === "absolute" ? path : basename(path);
    const serve = `require("http").createServer((q, r) => r.end("foreign")).listen(${JSON.stringify(where)}, () => console.log("up"))`;
    const rival = spawn(process.execPath, ["-e", serve], { cwd: dirname(path), stdio: ["ignore", "pipe", "inherit"] });
    context.after(() => rival.kill("SIGKILL"));
    await once(rival.stdout, "data");
    const unready = await controller.event((event) => event.kind === "unready" && event.slot === 0);
    assert.ok(unready.message.includes(`pid ${rival.pid} (`) && unready.message.includes(path), unready.message);
    for (let request = 0; request < 20; request++) assert.match(await ask(port), /web-1$/u);
    await end(rival);
    // The file was removed, so no path leads to the worker's socket.
    await eventually(
      async () => ((await controller.worker("web-0")).waits_for?.includes("nothing listens") ? true : undefined),
      "the reason changes",
    );
    assert.equal((await controller.worker("web-0")).phase, "unready");
  });
}

test("a worker whose Unix socket was removed is replaced", async () => {
  const port = await freePort();
  const opened = await onUnixSockets(port);
  await using controller = opened.controller;
  const before = await controller.pids();
  rmSync(opened.path);
  const { seq } = await controller.event((event) => event.kind === "operation_finished" && event.what === "restart");
  assert.notEqual((await controller.pids())["web-0"], before["web-0"]);
  assert.ok(controller.events.some((event) => event.kind === "ready" && event.seq < seq && event.pool === "web"));
  for (let request = 0; request < 20; request++) assert.match(await ask(port), /web-\d$/u);
});
