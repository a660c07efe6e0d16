/** sd_notify(3) of the real executable, received by python3 because Node.js has no Unix datagram sockets. */
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

/** A service manager that only records notifications. */
class FakeServiceManager implements AsyncDisposable {
  /** Path, or "@name" of an abstract socket. */
  readonly socket: string;
  /** Datagrams so far. */
  readonly received: string[] = [];
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
      manager.received.push(JSON.parse(line));
      manager.#wake();
    });
    return manager;
  }

  async until(condition: (received: readonly string[]) => boolean): Promise<void> {
    while (!condition(this.received)) {
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
const has = (text: string) => (received: readonly string[]) => received.some((each) => each.split("\n").includes(text));

describe("service manager", () => {
  for (const isAbstract of [false, true]) {
    test(`the controller sends READY=1 when all workers are ready, and STOPPING=1 at shutdown (${isAbstract ? "abstract socket" : "path"})`, async () => {
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
      const kinds = manager.received.map((each) => each.split("\n")[0]);
      assert.deepEqual(kinds, ["READY=1", "STOPPING=1"]);
      for (const each of manager.received) assert.match(each, /\nSTATUS=\S/u);
    });
  }

  test("with WATCHDOG_USEC the controller sends WATCHDOG=1 regularly, also during a long shutdown", async () => {
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
    const watchdogs = () => manager.received.filter((each) => each === "WATCHDOG=1").length;
    await manager.until(() => watchdogs() >= 5);
    assert.equal(manager.received[0]?.split("\n")[0], "READY=1");
    const stopped = controller.stop();
    await manager.until(has("STOPPING=1"));
    const before = watchdogs();
    await manager.until(() => watchdogs() >= before + 2);
    assert.equal((await stopped).code, 0);
  });

  test("a WATCHDOG_PID of another process disables the watchdog", async () => {
    await using manager = await FakeServiceManager.start();
    await using controller = await ControllerUnderTest.start({
      workers: WORKERS,
      env: { NOTIFY_SOCKET: manager.socket, WATCHDOG_USEC: "20000", WATCHDOG_PID: "1" },
    });
    await manager.until(has("READY=1"));
    assert.equal((await controller.stop()).code, 0);
    await manager.until(has("STOPPING=1"));
    assert.ok(!manager.received.includes("WATCHDOG=1"));
  });

  test("a missing service manager does not affect the controller", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: WORKERS,
      env: { NOTIFY_SOCKET: "/nowhere/notify", WATCHDOG_USEC: "20000" },
    });
    await controller.ready();
    assert.equal((await controller.stop()).code, 0);
  });
});
