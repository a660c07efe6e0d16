import assert from "node:assert/strict";
import { test } from "node:test";
import { killAll } from "../../../test/support/watch.ts";
import { PreparedStrings, reapPid, spawnProcess } from "../os/linux.ts";
import { Adoptions } from "./adoptions.ts";
import { CONTROLLER_MARK } from "./guardian.ts";

const MARK = `${process.pid}.adoptions`;

function sleeper(slot: number): number {
  const nothing = {
    cwd: undefined,
    stdinFd: undefined,
    stdoutFd: undefined,
    stderrFd: undefined,
  };
  const env = [`${CONTROLLER_MARK}=${MARK}`, "MONOCEROS_POOL=web", `MONOCEROS_SLOT=${slot}`, "MONOCEROS_INCARNATION=1"];
  const sharedEnv = new PreparedStrings([]);
  const argv = ["sleep", "1000"];
  return spawnProcess({
    file: "/bin/sleep",
    argv,
    sharedEnv,
    env,
    ...nothing,
  });
}

test("adopted processes are examined once, a few per turn, and found by the marks of their worker", (context) => {
  const children = [sleeper(0), sleeper(1), sleeper(0), sleeper(0)];
  context.after(() => {
    killAll(children);
    for (const pid of children) while (reapPid(pid) === undefined);
  });
  const worker = { pid: 1, marks: ["web", 0, 1].join("\0") };
  // The shortest turn examines one process.
  const adoptions = new Adoptions(MARK, 0);
  const guardian = children[3];
  const looks = [1, 2, 3].map(() => adoptions.examine(children, (pid) => pid === guardian));
  assert.equal(looks[0], "partly");
  while (adoptions.examine(children, (pid) => pid === guardian) !== "all");
  assert.deepEqual([...adoptions.membersOf(worker)], [children[0], children[2]]);
  adoptions.forget(children[0] ?? 0);
  assert.deepEqual([...adoptions.membersOf(worker)], [children[2]]);
  assert.equal(adoptions.hasMembersOf({ pid: 1, marks: ["web", 7, 1].join("\0") }), false);
});
