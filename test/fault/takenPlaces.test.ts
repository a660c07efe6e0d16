/** Ports and sockets that exist at the start: stale sockets are replaced; those in use cause an error that names the owner. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, MONOCEROS, type StartOptions } from "../support/controller.ts";
import { freePort } from "../support/ports.ts";
import { logged, shellPool } from "../support/watch.ts";

const WORKER = shellPool("web", "exec sleep 1000");

/** Runs a controller whose start must fail before it starts a worker, and returns its stderr. */
async function failedStart(options: Omit<StartOptions, "workers">, scratch: string): Promise<string> {
  const marker = join(scratch, "started");
  const { ending, stderr } = await ControllerUnderTest.run({
    ...options,
    workers: shellPool("web", `touch ${marker}`),
  });
  assert.deepEqual(ending, { code: 1, signal: null });
  assert.equal(existsSync(marker), false, "no worker starts");
  return stderr.join("\n");
}

function scratchOf(context: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-places-"));
  context.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

test("the stale control socket of a killed controller is replaced, with mode 0600 [P3]", async (context) => {
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

test("a start fails if another controller uses the control socket, and the error names its pid and command [P3]", async (context) => {
  const scratch = scratchOf(context);
  const socket = join(scratch, "control.sock");
  await using first = await ControllerUnderTest.start({ workers: WORKER, socket });
  const text = await failedStart({ socket }, scratch);
  assert.match(text, /Cannot listen on control socket .* listens on it/u);
  assert.ok(text.includes(`pid ${first.pid} (${MONOCEROS} -c ${first.directory}/config.yaml)`), text);
  assert.equal((await first.status()).pid, first.pid, "the first controller is not affected");
});

test("a start fails if every user may write to the control socket's directory [P3]", async (context) => {
  const scratch = scratchOf(context);
  const open = join(scratch, "open");
  mkdirSync(open);
  chmodSync(open, 0o777);
  assert.match(
    await failedStart({ socket: join(open, "control.sock") }, scratch),
    /every user may write to the directory/u,
  );
});

test("a start fails if another process uses the admin port, and the error names its pid and command [P3]", async (context) => {
  const scratch = scratchOf(context);
  const port = await freePort();
  await using first = await ControllerUnderTest.start({ workers: WORKER, port });
  const text = await failedStart({ port }, scratch);
  assert.match(text, /Cannot listen on admin address .* holds the port/u);
  assert.ok(text.includes(`pid ${first.pid} (${MONOCEROS} -c ${first.directory}/config.yaml)`), text);

  const own = createServer().listen(0, "127.0.0.1");
  context.after(() => own.close());
  await once(own, "listening");
  const address = own.address();
  assert.ok(typeof address === "object" && address !== null);
  assert.ok((await failedStart({ port: address.port }, scratch)).includes(`pid ${process.pid} (`));
});

test("a start that fails because of the admin port does not affect an existing control socket [P3]", async (context) => {
  const scratch = scratchOf(context);
  const port = await freePort();
  const socket = join(scratch, "control.sock");
  await using first = await ControllerUnderTest.start({ workers: WORKER, port, socket });
  await failedStart({ port, socket }, scratch);
  assert.equal(existsSync(socket), true);
  assert.equal((await first.status()).healthy, true);
});

test("a removed control socket is created again, unless another controller has taken the path", async () => {
  await using first = await ControllerUnderTest.start({ workers: shellPool("web", "exec sleep 1000") });
  await first.ready();
  rmSync(first.socket);
  await logged(first, "the control socket", "was removed; bound it again");
  assert.equal((await first.status()).pid, first.pid);
  // The second controller takes the path before the first one has checked it.
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
