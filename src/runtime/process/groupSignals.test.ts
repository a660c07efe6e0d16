/** Witnesses of signals: real processes that block them, and the memory of what is old. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { PreparedStrings, reapPid, spawnProcess } from "../os/linux.ts";
import { GroupSignals, readPendingSignals } from "./groupSignals.ts";

function spawnSleep(blocksSignals: boolean): number {
  return spawnProcess({
    file: "/bin/sleep",
    argv: ["sleep", "1000"],
    sharedEnv: new PreparedStrings([]),
    env: [],
    cwd: undefined,
    stdinFd: undefined,
    stdoutFd: undefined,
    stderrFd: undefined,
    blocksSignals,
  });
}

async function end(pid: number): Promise<unknown> {
  const exit = once(process, "SIGCHLD");
  process.kill(pid, "SIGKILL");
  await exit;
  return reapPid(pid);
}

test("a signal sent to a process that blocks signals stays pending and does not end it", async () => {
  const pid = spawnSleep(true);
  try {
    using signals = new GroupSignals(() => [pid]);
    assert.equal(signals.has("SIGTERM"), false);
    process.kill(pid, "SIGTERM");
    process.kill(pid, "SIGHUP");
    assert.equal(signals.has("SIGTERM"), true);
    assert.equal(signals.has("SIGQUIT"), false);
    assert.equal(signals.has("SIGQUIT", "SIGHUP"), true);
  } finally {
    assert.deepEqual(await end(pid), { kind: "signal", signal: "SIGKILL" });
  }
});

test("a spawned process blocks signals only if requested", async () => {
  const pid = spawnSleep(false);
  const exit = once(process, "SIGCHLD");
  process.kill(pid, "SIGTERM");
  await exit;
  assert.deepEqual(reapPid(pid), { kind: "signal", signal: "SIGTERM" });
});

test("a signal that was pending in two polls is old, any other is new", () => {
  const TERM = 1n << 14n;
  const INT = 1n << 1n;
  let pending = TERM;
  using signals = new GroupSignals(
    () => [1],
    () => pending,
  );
  signals.look();
  assert.equal(signals.has("SIGTERM"), true, "it may have come just before the look");
  signals.look();
  assert.equal(signals.has("SIGTERM"), false);
  pending |= INT;
  assert.equal(signals.has("SIGINT", "SIGTERM"), true);
});

test("a process that has exited has no pending signals", () => {
  assert.equal(readPendingSignals(0x7fffffff), 0n);
});

test("a signal counts as sent to the group only if every witness received it, and not without witnesses", () => {
  const TERM = 1n << 14n;
  using some = new GroupSignals(
    () => [1, 2],
    (pid) => (pid === 1 ? TERM : 0n),
  );
  assert.equal(some.has("SIGTERM"), false);
  using none = new GroupSignals(
    () => [],
    () => TERM,
  );
  assert.equal(none.has("SIGTERM"), false);
});
