/** sd_notify(3) of the real executable, heard by a datagram socket of python3 (Node.js has none for Unix). */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";

const LISTENER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind("\\0" + name[1:] if name.startswith("@") else name)
print("bound", flush=True)
while True: print(json.dumps(s.recv(4096).decode()), flush=True)
`;

/** A service manager that only listens. */
class FakeServiceManager implements AsyncDisposable {
  /** Path, or "@name" of an abstract socket. */
  readonly socket: string;
  /** Datagrams so far. */
  readonly heard: string[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), "monoceros-notify-"));
  readonly #process: ChildProcess;
  #wake: () => void = () => {};

  private constructor(isAbstract: boolean) {
    this.socket = isAbstract ? `@${this.#directory}` : join(this.#directory, "notify");
    this.#process = spawn("python3", ["-c", LISTENER, this.socket], { stdio: ["ignore", "pipe", "inherit"] });
  }

  static async start(isAbstract = false): Promise<FakeServiceManager> {
    const manager = new FakeServiceManager(isAbstract);
    const { stdout } = manager.#process;
    assert.ok(stdout !== null);
    const lines = createInterface({ input: stdout });
    await once(lines, "line");
    lines.on("line", (line) => {
      manager.heard.push(JSON.parse(line));
      manager.#wake();
    });
    return manager;
  }

  async until(condition: (heard: readonly string[]) => boolean): Promise<void> {
    while (!condition(this.heard)) {
      await new Promise<void>((wake) => {
        this.#wake = wake;
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await once(this.#process, "close");
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

const WORKERS = poolOf({ name: "web", replicas: 2, exec: "sleep", args: ["100000"], startup_wait_time: "0s" });
const has = (text: string) => (heard: readonly string[]) => heard.some((each) => each.split("\n").includes(text));

describe("service manager", () => {
  for (const isAbstract of [false, true]) {
    test(`it is told READY=1 once all workers run, and STOPPING=1 at the end (${isAbstract ? "abstract socket" : "path"})`, async () => {
      await using manager = await FakeServiceManager.start(isAbstract);
      await using controller = await ControllerUnderTest.start({
        workers: WORKERS,
        env: { NOTIFY_SOCKET: manager.socket },
      });
      await manager.until(has("READY=1"));
      const { pools } = await controller.status();
      assert.equal(pools[0]?.ready, 2);
      assert.equal((await controller.stop()).code, 0);
      await manager.until(has("STOPPING=1"));
      const kinds = manager.heard.map((each) => each.split("\n")[0]);
      assert.deepEqual(kinds, ["READY=1", "STOPPING=1"]);
      for (const each of manager.heard) assert.match(each, /\nSTATUS=\S/u);
    });
  }

  test("WATCHDOG=1 comes again and again where a watchdog is asked for, and through a long shutdown too", async () => {
    await using manager = await FakeServiceManager.start();
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({
        name: "web",
        replicas: 1,
        exec: "sh",
        args: ["-c", "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.05; done"],
      }),
      env: { NOTIFY_SOCKET: manager.socket, WATCHDOG_USEC: "200000" },
    });
    const watchdogs = () => manager.heard.filter((each) => each === "WATCHDOG=1").length;
    await manager.until(() => watchdogs() >= 5);
    assert.equal(manager.heard[0]?.split("\n")[0], "READY=1");
    const stopped = controller.stop();
    await manager.until(has("STOPPING=1"));
    const before = watchdogs();
    await manager.until(() => watchdogs() >= before + 2);
    assert.equal((await stopped).code, 0);
  });

  test("a watchdog that is meant for another process is left alone", async () => {
    await using manager = await FakeServiceManager.start();
    await using controller = await ControllerUnderTest.start({
      workers: WORKERS,
      env: { NOTIFY_SOCKET: manager.socket, WATCHDOG_USEC: "20000", WATCHDOG_PID: "1" },
    });
    await manager.until(has("READY=1"));
    assert.equal((await controller.stop()).code, 0);
    await manager.until(has("STOPPING=1"));
    assert.ok(!manager.heard.includes("WATCHDOG=1"));
  });

  test("a service manager that went away does not matter", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: WORKERS,
      env: { NOTIFY_SOCKET: "/nowhere/notify", WATCHDOG_USEC: "20000" },
    });
    await controller.ready();
    assert.equal((await controller.stop()).code, 0);
  });
});
