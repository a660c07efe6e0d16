/** Pools without probes: a worker is ready when it listens or has survived, not when it is spawned. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, poolOf } from "../support/controller.ts";
import { freePort } from "../support/ports.ts";

const ACCEPTED = "  c, _ = s.accept(); c.recv(1000); c.sendall(b'HTTP/1.0 200 OK\\r\\n\\r\\nok'); c.close()";

/** Python programs that serve descriptor 3 and wait for connections in different ways. */
const WAYS: Readonly<Record<string, string>> = {
  "accept(2)": `while True:\n${ACCEPTED}`,
  "poll(2)": `import select\np = select.poll(); p.register(s, select.POLLIN)\nwhile True:\n  p.poll()\n${ACCEPTED}`,
  "select(2)": `import select\nwhile True:\n  select.select([s], [], [])\n${ACCEPTED}`,
  "an epoll set": `import select\np = select.epoll(); p.register(s, select.EPOLLIN)\nwhile True:\n  p.poll()\n${ACCEPTED}`,
  "an epoll set in an epoll set": `import select
p = select.epoll(); p.register(s, select.EPOLLIN)
q = select.epoll(); q.register(p, select.EPOLLIN)
while True:
  q.poll()
${ACCEPTED}`,
  "a child that accepts": `import os
if os.fork() == 0:
  while True:
  ${ACCEPTED}
while True: os.wait()`,
};

/** A pool of Python programs with a shared socket as descriptor 3. */
function shared(name: string, port: number, code: string, changes: Record<string, unknown> = {}): string {
  const args = ["-c", `import socket\ns = socket.socket(fileno=3)\n${code}`];
  return poolOf({ name, exec: "python3", args, sockets: [{ name: "http", listen: `127.0.0.1:${port}` }], ...changes });
}

function scratchOf(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-unprobed-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

for (const [way, code] of Object.entries(WAYS)) {
  test(`a worker that waits on its shared socket by ${way} is ready without probes`, async () => {
    const port = await freePort();
    await using controller = await ControllerUnderTest.start({ workers: shared("web", port, code) });
    const ready = await controller.event((event) => event.kind === "ready");
    assert.equal("evidence" in ready && ready.evidence, "listening");
  });
}

test("a worker that has its shared socket open but waits for something else is not ready yet", async () => {
  const port = await freePort();
  const code = "import os, select\nr, w = os.pipe()\nwhile True: select.select([r], [], [], 1)";
  await using controller = await ControllerUnderTest.start({ workers: shared("web", port, code) });
  const waiting = await controller.event((event) => event.kind === "waiting");
  assert.ok(
    waiting.message.includes(`none of its processes waits on socket "http" (127.0.0.1:${port})`),
    waiting.message,
  );
  assert.equal((await controller.worker("web-0")).phase, "starting");
});

test("workers that accept no connections from a shared TCP socket become unready with the reason, until one accepts", async (context) => {
  const port = await freePort();
  const marker = join(scratchOf(context), "accept");
  const code = `import os, time\nwhile not os.path.exists(${JSON.stringify(marker)}): time.sleep(0.1)\nwhile True:\n${ACCEPTED}`;
  await using controller = await ControllerUnderTest.start({ workers: shared("web", port, code, { replicas: 2 }) });
  // Without evidence that it accepts, it is ready only because of its uptime, which causes a warning.
  const ready = await controller.event((event) => event.kind === "ready");
  assert.ok("evidence" in ready && ready.evidence === "none" && ready.afterMs >= 10_000, ready.message);
  const clients: Socket[] = [];
  for (let client = 0; client < 3; client++) clients.push(connect(port, "127.0.0.1").on("error", () => {}));
  context.after(() => {
    for (const client of clients) client.destroy();
  });
  const unready = await controller.event((event) => event.kind === "unready");
  assert.match(
    unready.message,
    /no worker has accepted a connection from socket "http" .*; 3 connections are waiting/u,
  );
  assert.equal((await controller.status()).healthy, false);
  const warnings = controller.stderr.filter((line) => line.includes("although none of its processes was seen waiting"));
  assert.equal(warnings.length, 1, warnings.join("\n"));
  writeFileSync(marker, "");
  for (const client of clients) client.end("GET / HTTP/1.0\r\n\r\n");
  await eventually(async () => ((await controller.status()).healthy ? true : undefined), "the pool is healthy again");
});

test("workers that accept no connections from a shared Unix socket become unready with the reason", async (context) => {
  const path = join(scratchOf(context), "web.sock");
  const code = "import time\ntime.sleep(1000)";
  await using controller = await ControllerUnderTest.start({
    workers: shared("web", 0, code, { sockets: [{ name: "http", listen: path }] }),
  });
  const client = connect(path).on("error", () => {});
  context.after(() => client.destroy());
  await controller.event((event) => event.kind === "ready");
  await controller.event((event) => event.kind === "unready" && event.message.includes(`(${path})`));
});

test("a restart whose new workers crash within min_ready fails, and the old workers keep serving", async (context) => {
  const marker = join(scratchOf(context), "broken");
  const script = `if [ -e ${marker} ]; then sleep 4; echo broken >&2; exit 3; fi; exec sleep 1000`;
  await using controller = await ControllerUnderTest.start({
    hasDefaultMinReady: true,
    workers: poolOf({ name: "jobs", replicas: 2, exec: "sh", args: ["-c", script] }),
  });
  await controller.ready();
  const before = await controller.pids();
  writeFileSync(marker, "");
  await controller.call("POST", "/v1/pools/jobs/restart");
  const failed = await controller.event((event) => event.kind === "operation_failed");
  assert.match(failed.message, /jobs-\d .*exited with code 3/u);
  // The new worker was restarted at once after its first crash, and is then stopped.
  await eventually(async () => {
    const pids = await controller.pids();
    for (const [id, pid] of Object.entries(before)) assert.equal(pids[id], pid, id);
    return Object.keys(pids).length === Object.keys(before).length ? true : undefined;
  }, "only the old workers run");
});

test("a worker in a crash loop is never ready", async () => {
  const port = await freePort();
  const crashing = `import threading, os\nthreading.Timer(0.5, lambda: os._exit(3)).start()\nwhile True:\n${ACCEPTED}`;
  await using controller = await ControllerUnderTest.start({ workers: shared("web", port, crashing) });
  await controller.event((event) => event.kind === "backing_off" && event.reason.includes("crash 2 in a row"));
  await controller.event((event) => event.kind === "backing_off" && event.reason.includes("crash 5 in a row"));
  const second = controller.events.find(
    ({ kind, message }) => kind === "backing_off" && message.includes("crash 2 in a row"),
  );
  const later = controller.events.filter(({ kind, seq }) => kind === "ready" && seq > (second?.seq ?? 0));
  assert.deepEqual(later, []);
  assert.equal((await controller.status()).healthy, false);
});

test("a worker that opens its own socket is ready when it listens", async () => {
  const port = await freePort();
  await using controller = await ControllerUnderTest.start({
    hasDefaultMinReady: true,
    workers: poolOf({
      name: "web",
      exec: "python3",
      args: [
        "-c",
        `import http.server\nhttp.server.HTTPServer(("127.0.0.1", ${port}), http.server.BaseHTTPRequestHandler).serve_forever()`,
      ],
    }),
  });
  const ready = await controller.event((event) => event.kind === "ready");
  assert.ok("evidence" in ready && ready.evidence === "listening", ready.message);
});

for (const what of ["restart", "scale"] as const) {
  test(`a ${what} whose new workers serve but crash within min_ready fails, and the old workers keep serving`, async (context) => {
    const port = await freePort();
    const marker = join(scratchOf(context), "broken");
    const code = `import os, threading
if os.path.exists(${JSON.stringify(marker)}): threading.Timer(4, lambda: os._exit(3)).start()
while True:
${ACCEPTED}`;
    await using controller = await ControllerUnderTest.start({
      hasDefaultMinReady: true,
      workers: shared("web", port, code, { replicas: 2 }),
    });
    await controller.ready();
    const before = await controller.pids();
    writeFileSync(marker, "");
    await controller.call("POST", `/v1/pools/web/${what}`, {}, what === "scale" ? '{"replicas": 3}' : "");
    const failed = await controller.event((event) => event.kind === "operation_failed");
    assert.match(failed.message, /web-2 .*exited with code 3/u);
    const after = await controller.pids();
    assert.deepEqual([after["web-0"], after["web-1"]], [before["web-0"], before["web-1"]]);
  });
}

test("a worker that closes its own listener is unready with the address until it listens again", async (context) => {
  const port = await freePort();
  const marker = join(scratchOf(context), "closed");
  const code = `import os, socket, time
while True:
  s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
  s.bind(("127.0.0.1", ${port})); s.listen()
  while not os.path.exists(${JSON.stringify(marker)}): time.sleep(0.05)
  s.close()
  while os.path.exists(${JSON.stringify(marker)}): time.sleep(0.05)`;
  await using controller = await ControllerUnderTest.start({
    hasDefaultMinReady: true,
    workers: `${poolOf({ name: "web", exec: "python3", args: ["-c", code] })}\n${poolOf({ name: "jobs", exec: "sleep", args: [1000] })}`,
  });
  await controller.ready();
  await eventually(
    async () => ((await controller.worker("web-0")).uptime_s ?? 0) > 10 || undefined,
    "web-0 has listened long enough to count as a server",
  );
  writeFileSync(marker, "");
  const unready = await controller.event((event) => event.kind === "unready");
  assert.ok(
    unready.message.includes(`it listened on 127.0.0.1:${port}, and none of its processes listens any more`),
    unready.message,
  );
  assert.match((await controller.worker("web-0")).waits_for ?? "", /none of its processes listens any more/u);
  assert.equal((await controller.worker("jobs-0")).phase, "ready", "a worker that never listened is unaffected");
  rmSync(marker);
  await eventually(
    async () => ((await controller.worker("web-0")).phase === "ready" ? true : undefined),
    "web-0 is ready again",
  );
});
