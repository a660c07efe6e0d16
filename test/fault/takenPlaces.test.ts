/** Ports and sockets that are taken at the start: what is stale is taken over, what is in use is named and left alone. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, MONOCEROS, type StartOptions } from "../support/controller.ts";
import { freePort } from "../support/ports.ts";
import { logged, shellPool } from "../support/watch.ts";

const WORKER = shellPool("web", "exec sleep 1000");

/** Runs a controller that must refuse to start, and leave no trace of a worker; returns what it said. */
async function refused(options: Omit<StartOptions, "workers">, scratch: string): Promise<string> {
  const marker = join(scratch, "started");
  const { ending, stderr } = await ControllerUnderTest.run({
    ...options,
    workers: shellPool("web", `touch ${marker}`),
  });
  assert.deepEqual(ending, { code: 1, signal: null });
  assert.equal(existsSync(marker), false, "nothing starts");
  return stderr.join("\n");
}

function scratchOf(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-places-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test("the socket file of a controller that was killed is taken over, and is the owner's alone [P3]", async (context) => {
  const socket = join(scratchOf(context), "control.sock");
  await using first = await ControllerUnderTest.start({ workers: WORKER, socket });
  process.kill(first.pid, "SIGKILL");
  await first.ended;
  assert.equal(existsSync(socket), true);
  await using second = await ControllerUnderTest.start({ workers: WORKER, socket });
  assert.equal((await second.status()).pid, second.pid);
  assert.equal(statSync(socket).mode & 0o777, 0o600);
  assert.deepEqual(await second.stop(), { code: 0, signal: null });
  assert.equal(existsSync(socket), false);
});

test("the socket of a controller that lives is left to it, and the refusal names its pid and command [P3]", async (context) => {
  const scratch = scratchOf(context);
  const socket = join(scratch, "control.sock");
  await using first = await ControllerUnderTest.start({ workers: WORKER, socket });
  const text = await refused({ socket }, scratch);
  assert.match(text, /Cannot listen on control socket .* listens on it/u);
  assert.ok(text.includes(`pid ${first.pid} (${MONOCEROS} -c ${first.directory}/config.yaml)`), text);
  assert.equal((await first.status()).pid, first.pid, "the first one does not notice");
});

test("a file at the control socket's path that is no socket is left alone [P3]", async (context) => {
  const scratch = scratchOf(context);
  const socket = join(scratch, "control.sock");
  writeFileSync(socket, "precious");
  assert.match(
    await refused({ socket }, scratch),
    /Cannot listen on control socket .* the file exists and is not a socket/u,
  );
  assert.equal(statSync(socket).size, "precious".length);
});

test("a control socket in a directory that anybody may write to is refused [P3]", async (context) => {
  const scratch = scratchOf(context);
  const open = join(scratch, "open");
  mkdirSync(open);
  chmodSync(open, 0o777);
  assert.match(
    await refused({ socket: join(open, "control.sock") }, scratch),
    /every user may write to the directory/u,
  );
});

test("an admin port that another process holds is refused with the pid and the command of the holder [P3]", async (context) => {
  const scratch = scratchOf(context);
  const port = await freePort();
  await using first = await ControllerUnderTest.start({ workers: WORKER, port });
  const text = await refused({ port }, scratch);
  assert.match(text, /Cannot listen on admin address .* holds the port/u);
  assert.ok(text.includes(`pid ${first.pid} (${MONOCEROS} -c ${first.directory}/config.yaml)`), text);

  const own = createServer().listen(0, "127.0.0.1");
  context.after(() => own.close());
  await once(own, "listening");
  const address = own.address();
  assert.ok(typeof address === "object" && address !== null);
  assert.ok((await refused({ port: address.port }, scratch)).includes(`pid ${process.pid} (`));
});

test("where an admin port is refused the control socket that was there before is untouched [P3]", async (context) => {
  const scratch = scratchOf(context);
  const port = await freePort();
  const socket = join(scratch, "control.sock");
  await using first = await ControllerUnderTest.start({ workers: WORKER, port, socket });
  await refused({ port, socket }, scratch);
  assert.equal(existsSync(socket), true);
  assert.equal((await first.status()).healthy, true);
});

test("a control socket that a cleaner removed is back within seconds, and a second controller keeps a path that it took", async () => {
  await using first = await ControllerUnderTest.start({ workers: shellPool("web", "exec sleep 1000") });
  await first.ready();
  rmSync(first.socket);
  await logged(first, "the control socket", "was removed; bound it again");
  assert.equal((await first.status()).pid, first.pid);
  // It takes the path before the first one has looked.
  first.child.kill("SIGSTOP");
  rmSync(first.socket);
  await using second = await ControllerUnderTest.start({
    workers: shellPool("web", "exec sleep 1000"),
    socket: first.socket,
  });
  first.child.kill("SIGCONT");
  await logged(first, "cannot be bound again", `pid ${second.pid}`);
  assert.equal((await first.stop()).code, 0);
  assert.equal((await second.status()).pid, second.pid);
  assert.equal((await second.stop()).code, 0);
  assert.equal(existsSync(first.socket), false);
});
