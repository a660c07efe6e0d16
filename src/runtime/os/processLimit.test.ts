import assert from "node:assert/strict";
import { test } from "node:test";
import { findProcessLimit, hasRefusedProcesses, requireProcesses } from "./processLimit.ts";

/** A system with these files; all others are missing. */
function system(files: Readonly<Record<string, string>>) {
  return (path: string) => files[path];
}

const LIMITS =
  "Limit  Soft Limit  Hard Limit  Units\nMax processes             12                   12        processes\n";
const V1 = { "/proc/self/cgroup": "8:pids:/pod/app\n0::/\n", "/proc/self/status": "Uid:\t0\t0\t0\t0\n" };
const V2 = { "/proc/self/cgroup": "0::/pod/app\n", "/proc/self/status": "Uid:\t0\t0\t0\t0\n" };

test("the control group that has reached its limit is named, also if it is an ancestor", () => {
  const v2 = system({
    ...V2,
    "/sys/fs/cgroup/pod/app/pids.max": "max\n",
    "/sys/fs/cgroup/pod/pids.max": "16\n",
    "/sys/fs/cgroup/pod/pids.current": "16\n",
    "/proc/self/limits": LIMITS,
  });
  assert.match(findProcessLimit(v2).text, /^pids\.max of its control group is 16, 16 of them in use$/u);
  assert.match(findProcessLimit(v2).hint, /--pids-limit.*podPidsLimit.*TasksMax/u);
  const v1 = system({
    ...V1,
    "/sys/fs/cgroup/pids/pod/app/pids.max": "8",
    "/sys/fs/cgroup/pids/pod/app/pids.current": "8",
  });
  assert.match(findProcessLimit(v1).text, /is 8, 8 of them in use/u);
});

test("a control group that has refused a process is named even if it has room again", () => {
  const read = system({
    ...V2,
    "/proc/self/status": "Uid:\t1000\t1000\t1000\t1000\n",
    "/sys/fs/cgroup/pod/app/pids.max": "16",
    "/sys/fs/cgroup/pod/app/pids.current": "9",
    "/sys/fs/cgroup/pod/app/pids.events": "max 3\n",
    "/proc/self/limits": LIMITS,
  });
  assert.match(findProcessLimit(read).text, /pids\.max .* 16/u);
});

test("a limit has refused a process if it counted a refusal or is reached", () => {
  const group = (current: string, events: string) =>
    system({
      ...V2,
      "/sys/fs/cgroup/pod/app/pids.max": "16",
      "/sys/fs/cgroup/pod/app/pids.current": current,
      "/sys/fs/cgroup/pod/app/pids.events": events,
    });
  assert.equal(hasRefusedProcesses(group("9", "max 0\n")), false);
  assert.equal(hasRefusedProcesses(group("9", "max 3\n")), true);
  assert.equal(hasRefusedProcesses(group("16", "max 0\n")), true);
  assert.equal(hasRefusedProcesses(system({ ...V2 })), false);
});

test("RLIMIT_NPROC is named with its user, except for root, which is exempt", () => {
  const files = { ...V2, "/proc/self/status": "Uid:\t1000\t1000\t1000\t1000\n", "/proc/self/limits": LIMITS };
  assert.match(findProcessLimit(system(files)).text, /^RLIMIT_NPROC is 12 for all .* of uid 1000$/u);
  assert.match(findProcessLimit(system({ ...V2, "/proc/self/limits": LIMITS }), 2000).text, /of uid 2000$/u);
  assert.match(findProcessLimit(system({ ...V2, "/proc/self/limits": LIMITS })).hint, /kernel\.pid_max/u);
});

test("a start that exceeds the limit is refused with the required number and the limit", () => {
  const status = (uid: number) => `Threads:\t7\nUid:\t${uid}\t${uid}\t${uid}\t${uid}\n`;
  const group = system({ ...V2, "/proc/self/status": status(0), "/sys/fs/cgroup/pod/app/pids.max": "11" });
  requireProcesses(4, "4 workers", group);
  const text =
    /needs at least 12 processes and threads \(its own 7, 5 workers\), but pids\.max of its control group is 11/u;
  assert.throws(() => requireProcesses(5, "5 workers", group), text);
  const user = system({ ...V2, "/proc/self/status": status(1000), "/proc/self/limits": LIMITS });
  requireProcesses(5, "5 workers", user);
  assert.throws(() => requireProcesses(6, "6 workers", user), /but RLIMIT_NPROC is 12/u);
});
