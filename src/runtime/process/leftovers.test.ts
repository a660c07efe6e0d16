import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { CONTROLLER_MARK } from "./guardian.ts";
import { controllerMark, leftoverOf } from "./leftovers.ts";

/** Runs `body` while a process with this mark lives. */
async function withMarked(mark: string, body: (pid: number) => void): Promise<void> {
  const env = { [CONTROLLER_MARK]: mark, MONOCEROS_POOL: "web", MONOCEROS_SLOT: "3", PATH: process.env["PATH"] };
  const child = spawn("sh", ["-c", "echo up; read -r line"], { stdio: ["pipe", "pipe", "inherit"], env });
  try {
    await once(child.stdout, "data");
    assert.ok(child.pid !== undefined);
    body(child.pid);
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
  }
}

function found(pid: number): ReturnType<typeof leftoverOf> {
  return leftoverOf(pid);
}

test("the mark is the pid and the start of this process", () => {
  assert.match(controllerMark(), new RegExp(`^${process.pid}\\.[1-9]\\d*$`, "u"));
  assert.equal(controllerMark(), controllerMark());
});

test("a worker whose controller has exited is found with its id and its command", async () => {
  await withMarked(`${2 ** 22 + 1}.77`, (pid) => {
    assert.deepEqual(found(pid), {
      pid,
      command: "sh -c echo up; read -r line",
      worker: "web-3",
      controllerPid: 2 ** 22 + 1,
    });
  });
});

test("a worker of a live controller is not a leftover", async () => {
  await withMarked(controllerMark(), (pid) => assert.equal(found(pid), undefined));
});

test("a reused pid is not mistaken for the controller", async () => {
  await withMarked(`${process.pid}.1`, (pid) => assert.equal(found(pid)?.controllerPid, process.pid));
});

test("no leftover is found after the worker has exited", async () => {
  let marked = 0;
  await withMarked(`${2 ** 22 + 1}.77`, (pid) => {
    marked = pid;
  });
  assert.equal(found(marked), undefined);
});
