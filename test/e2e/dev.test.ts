/** `monoceros dev` with a real Node.js server: an edited file is served without a failed request. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest, eventually, MONOCEROS, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import { assertNoneFailed, underTraffic } from "../support/traffic.ts";
import { eventsOf, happened, logged } from "../support/watch.ts";

/** A server that answers with `text`. */
function serverOf(text: string): string {
  return `import { createServer } from "node:http";
createServer((_, response) => response.end(${JSON.stringify(text)})).listen(process.env.PORT, "127.0.0.1");
`;
}

/** The body of a response; undefined if there is none. */
function bodyOf(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    get({ port, host: "127.0.0.1", agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => resolve(body));
    }).on("error", () => resolve(undefined));
  });
}

test("an edit is served without a failed request, a broken edit changes nothing, and SIGINT ends it", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-dev-"));
  const file = join(directory.path, "server.mjs");
  writeFileSync(file, serverOf("one"));
  const port = await freePorts(8);
  await using controller = await ControllerUnderTest.start({
    isDevelopment: true,
    hasDefaultMinReady: true,
    workers: poolOf({
      name: "web",
      replicas: 3,
      exec: process.execPath,
      args: ["server.mjs"],
      cwd: directory.path,
      server: { listener_address: "127.0.0.1", listener_port: port, start_port: port + 1 },
    }),
  });
  await controller.ready();
  await logged(controller, `watching ${directory.path} for changes, 1 directory`);
  assert.equal((await controller.status()).pools.find(({ name }) => name === "web")?.replicas, 1);
  const reports = await underTraffic(
    { port },
    async () => {
      assert.equal(await bodyOf(port), "one");
      writeFileSync(file, serverOf("two"));
      await happened(controller, "operation_finished");
      assert.equal(await bodyOf(port), "two");

      writeFileSync(file, "syntax error(");
      const failed = await happened(controller, "operation_failed");
      assert.match(failed.message, /exited with code 1/u);
      assert.equal(await bodyOf(port), "two");

      writeFileSync(file, serverOf("three"));
      await happened(controller, "operation_finished", () => true, 2);
      assert.equal(await bodyOf(port), "three");
    },
    { requests: [{ path: "/" }], keptAlive: 2, fresh: 2 },
  );
  assertNoneFailed(reports);
  assert.ok(controller.stderr.includes("SyntaxError: Unexpected identifier 'error'"), "the reason is shown as it is");
  controller.child.kill("SIGINT");
  assert.deepEqual(await controller.ended, { code: 0, signal: null });
});

test("run --watch reloads a changed file, and restarts the pools whose directory changed", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-watch-"));
  const pool = (name: string, cwd: string, args: readonly string[]) => poolOf({ name, exec: "sleep", args, cwd });
  const other = pool("other", "/", ["1000"]);
  await using controller = await ControllerUnderTest.start({
    workers: [pool("web", directory.path, ["1000"]), other].join("\n"),
    args: ["--watch", "--watch-path", directory.path],
  });
  await controller.ready();
  writeFileSync(join(directory.path, "app.py"), "");
  const restarts = () => eventsOf(controller, "operation_finished").map(({ pool, what }) => `${what} ${pool}`);
  await controller.until(() => restarts().length === 2, "both pools have restarted");
  assert.deepEqual(restarts().sort(), ["restart other", "restart web"]);
});

test("a directory that does not exist is an error before anything starts", async () => {
  const { ending, stderr } = await ControllerUnderTest.run({
    workers: poolOf({ name: "web", exec: "sleep", args: ["1000"] }),
    args: ["--watch", "--watch-path", "/nowhere"],
  });
  assert.equal(ending.code, 1);
  assert.match(stderr.join("\n"), /Cannot watch "\/nowhere" for changes: no such directory/u);
});

test("dev runs a program without a file, and starts one that crashed when it is corrected", async () => {
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-dev-"));
  const file = join(directory.path, "server.mjs");
  writeFileSync(file, "syntax error(");
  const port = await freePorts(1);
  const args = ["dev", "--admin-port", "0", "--port", String(port), "--", process.execPath, "server.mjs"];
  const child = spawn(MONOCEROS, args, {
    cwd: directory.path,
    env: { ...process.env, MONOCEROS_SOCKET: join(directory.path, "control.sock") },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  const ended = once(child, "close");
  try {
    await eventually(() => stderr.includes("crash 4 in a row") || undefined, "the program crashes");
    for (const text of ["one", "two"]) {
      writeFileSync(file, serverOf(text));
      await eventually(async () => (await bodyOf(port)) === text || undefined, `${text} is served`);
    }
  } finally {
    child.kill("SIGINT");
  }
  assert.deepEqual(await ended, [0, null], stderr);
});
