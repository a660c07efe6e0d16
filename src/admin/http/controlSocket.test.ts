/** The file of the control socket: bound again when it was removed, and never taken from another controller. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { eventually } from "../../../test/support/controller.ts";
import type { Logger } from "../../base/log.ts";
import { openListener } from "../../runtime/os/linux.ts";
import { findListener, findUnixListener } from "../../runtime/os/procfs.ts";
import { ControlSocket } from "./controlSocket.ts";
import { listenOnSocket, type OpenSocket } from "./listen.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-control-socket-"));
after(() => rmSync(directory, { recursive: true }));

const find = { onPort: findListener, onSocket: findUnixListener };
const open: OpenSocket = (path, backlog) => openListener({ family: "Unix", path }, backlog, 0);

function ask(socketPath: string): Promise<string | undefined> {
  return new Promise((done) => {
    const call = request({ socketPath, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => done(body));
    });
    call.on("error", () => done(undefined));
    call.end();
  });
}

let places = 0;

/** A controller's side: a server that answers with its name. */
class Side implements AsyncDisposable {
  readonly path: string;
  readonly warnings: string[] = [];
  readonly #server;
  #socket: ControlSocket | undefined;

  private constructor(path: string, name: string) {
    this.path = path;
    this.#server = createServer((_, response) => response.end(name));
  }

  static async start(name: string, path = join(directory, String(places++), "control.sock")): Promise<Side> {
    const side = new Side(path, name);
    const { file } = await listenOnSocket(side.#server, [path], find, open);
    assert.ok(file !== undefined);
    const log = { warn: (text: string) => side.warnings.push(text) } as unknown as Logger;
    side.#socket = new ControlSocket({ server: side.#server, file, find, open, log, lookMs: 5 });
    return side;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.[Symbol.dispose]();
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }
}

test("a control socket whose file is removed is bound again with its mode, every time", async () => {
  const side = await Side.start("here");
  for (let time = 1; time <= 3; time++) {
    rmSync(side.path);
    await eventually(() => (side.warnings.length === time ? true : undefined), "a warning");
    assert.equal(await ask(side.path), "here");
    assert.equal(statSync(side.path).mode & 0o777, 0o600);
    assert.match(side.warnings.at(-1) ?? "", /was removed; bound it again/u);
  }
  await side[Symbol.asyncDispose]();
  assert.equal(existsSync(side.path), false);
});

test("a control socket is bound again even if its directory was removed", async () => {
  await using side = await Side.start("here");
  rmSync(join(side.path, ".."), { recursive: true });
  await eventually(async () => ((await ask(side.path)) === "here" ? true : undefined), "it answers");
});

test("a second controller that took the path keeps it when the first one exits, and frees it at its own exit", async () => {
  const first = await Side.start("first");
  rmSync(first.path);
  const second = await Side.start("second", first.path);
  await eventually(
    () => first.warnings.find((text) => /cannot be bound again: .*process listens on it/u.test(text)),
    "the first one says so",
  );
  assert.equal(await ask(first.path), "second");
  await first[Symbol.asyncDispose]();
  assert.equal(await ask(first.path), "second");
  assert.deepEqual(second.warnings, []);
  await second[Symbol.asyncDispose]();
  assert.equal(existsSync(first.path), false);
});

test("after the second controller has exited the first one binds its path again", async () => {
  await using first = await Side.start("first");
  rmSync(first.path);
  const second = await Side.start("second", first.path);
  await second[Symbol.asyncDispose]();
  await eventually(async () => ((await ask(first.path)) === "first" ? true : undefined), "the first one answers");
});

test("an unusable path is reported once, and retried until it is usable", async () => {
  await using side = await Side.start("here");
  rmSync(side.path);
  mkdirSync(side.path);
  await eventually(() => (side.warnings.length > 0 ? true : undefined), "a warning");
  rmSync(side.path, { recursive: true });
  await eventually(async () => ((await ask(side.path)) === "here" ? true : undefined), "it answers");
  assert.equal(side.warnings.length, 2, side.warnings.join("\n"));
});

test("connections from before the removal of the file stay open", async () => {
  await using side = await Side.start("here");
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const once = () =>
    new Promise<number>((done, fail) => {
      const call = request({ socketPath: side.path, agent }, (response) => {
        response.resume();
        response.on("end", () => done(call.reusedSocket ? 1 : 0));
      });
      call.on("error", fail);
      call.end();
    });
  await once();
  rmSync(side.path);
  assert.equal(await once(), 1, "the same connection");
  agent.destroy();
});
