import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { FakeController, statusOf, workerStatus } from "../test/support/fakeController.ts";

function start(args: readonly string[]): ChildProcess {
  const main = fileURLToPath(new URL("main.ts", import.meta.url));
  return spawn(process.execPath, ["--no-warnings", main, ...args], { stdio: ["ignore", "pipe", "pipe"] });
}

async function ended(child: ChildProcess): Promise<{ code: number; stdout: string; stderr: string }> {
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (chunk: string) => {
      text[name] += chunk;
    });
  }
  const [code] = await once(child, "close");
  return { code, ...text };
}

test("the process leaves with the exit code of its command", async () => {
  const good = await ended(start(["--version"]));
  assert.deepEqual([good.code, good.stderr], [0, ""]);
  assert.match(good.stdout, /^monoceros /u);
  const bad = await ended(start(["status", "--socket", "/no.sock"]));
  assert.deepEqual([bad.code, bad.stdout], [69, ""]);
  assert.match(bad.stderr, /^monoceros: Cannot find a controller at \/no\.sock/u);
});

test("a reader of stdout that goes away ends the command quietly", async () => {
  await using fake = await FakeController.start();
  const following = Promise.withResolvers<() => void>();
  fake.answers.set("GET /v1/logs", (response) => {
    response.writeHead(200);
    const write = () => response.write('data: {"stream":"stdout","line":"x"}\n\n');
    write();
    following.resolve(write);
  });
  const child = start(["logs", "-f", "--socket", fake.socketPath]);
  let stderr = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  assert.ok(child.stdout !== null);
  await once(child.stdout, "data");
  child.stdout.destroy();
  await once(child.stdout, "close");
  (await following.promise)();
  const [code] = await once(child, "exit");
  assert.deepEqual([code, stderr], [0, ""]);
});

test("a reader that begins late gets all of a long answer", async () => {
  await using fake = await FakeController.start();
  const workers = Array.from({ length: 5000 }, (_, slot) => workerStatus({ id: `web-${slot}`, slot }));
  const answered = Promise.withResolvers<void>();
  fake.answers.set("GET /v1/status", (response) => {
    response.once("close", answered.resolve);
    response.end(JSON.stringify(statusOf(...workers)));
  });
  const child = start(["status", "--socket", fake.socketPath]);
  await answered.promise;
  const { code, stdout } = await ended(child);
  assert.equal(code, 0);
  assert.equal(stdout.split("\n").filter((line) => line.startsWith("  web-")).length, workers.length);
});
