import assert from "node:assert/strict";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { exposeSocket } from "./exposedSocket.ts";

function place(context: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-expose-"));
  const servers: Server[] = [];
  context.after(() => {
    for (const server of servers) server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const [path, link] = [join(directory, "w.sock"), join(directory, "e.sock")];
  const bind = async (at: string) => {
    const server = createServer().listen(at);
    servers.push(server);
    await once(server, "listening");
  };
  const own = { owner: process.getuid?.() ?? 0, group: process.getgid?.() ?? 0 };
  return { directory, path, link, bind, expose: (changes = {}) => exposeSocket({ path, link, ...own, ...changes }) };
}

test("a socket gets a link through which Envoy's group may connect", async (context) => {
  const { directory, path, link, bind, expose } = place(context);
  assert.equal(expose(), `there is no socket at ${path}`);
  await bind(path);
  chmodSync(path, 0o600);
  assert.equal(expose(), undefined);
  const exposed = lstatSync(link);
  assert.deepEqual([exposed.isSocket(), exposed.ino, exposed.mode & 0o777], [true, lstatSync(path).ino, 0o660]);
  // A server may set the mode of its socket after it listens.
  chmodSync(path, 0o600);
  assert.equal(expose(), undefined);
  assert.equal(lstatSync(link).mode & 0o777, 0o660);
  assert.deepEqual(readdirSync(directory).toSorted(), ["e.sock", "w.sock"]);
});

test("the link follows a socket that is bound again, and stays while there is no socket", async (context) => {
  const { directory, path, link, bind, expose } = place(context);
  await bind(path);
  assert.equal(expose(), undefined);
  renameSync(path, join(directory, "old.sock"));
  assert.equal(expose(), undefined);
  assert.equal(lstatSync(link).ino, lstatSync(join(directory, "old.sock")).ino);
  await bind(path);
  assert.equal(expose(), undefined);
  assert.equal(lstatSync(link).ino, lstatSync(path).ino);
});

test("a symlink, a file or another user's socket is refused, and the link stays", async (context) => {
  const { directory, path, link, bind, expose } = place(context);
  const foreign = join(directory, "control.sock");
  await bind(foreign);
  symlinkSync(foreign, path);
  assert.equal(expose(), `${path} is a symlink`);
  rmSync(path);
  writeFileSync(path, "");
  assert.equal(expose(), `${path} is not a socket`);
  rmSync(path);
  await bind(path);
  assert.match(expose({ owner: 54_321 }) ?? "", /belongs to uid \d+, expected uid 54321 of the worker/u);
  assert.ok(!existsSync(link));
  assert.equal(expose(), undefined);
  const { ino } = lstatSync(link);
  renameSync(path, join(directory, "own.sock"));
  symlinkSync(foreign, path);
  assert.equal(expose(), `${path} is a symlink`);
  assert.equal(lstatSync(link).ino, ino);
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.endsWith(".new")),
    [],
  );
});
