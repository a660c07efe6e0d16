import assert from "node:assert/strict";
import { test } from "node:test";
import { availableCpus, countCpus } from "./cpus.ts";

function cpusWith(files: Readonly<Record<string, string>>): number {
  return availableCpus((path) => files[path]);
}

const EIGHT = "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n";

test("a list of CPUs is counted", () => {
  assert.equal(countCpus("0"), 1);
  assert.equal(countCpus("0-3,8,10-11"), 7);
  assert.equal(countCpus(""), Number.POSITIVE_INFINITY);
});

test("the affinity mask decides where there is no quota", () => {
  assert.equal(cpusWith({ "/proc/self/status": EIGHT }), 8);
  assert.equal(
    cpusWith({
      "/proc/self/status": EIGHT,
      "/proc/self/cgroup": "0::/\n",
      "/sys/fs/cgroup/cpu.max": "max 100000\n",
    }),
    8,
  );
});

test("a quota of cgroup v2 limits, rounded up, and the tightest group around counts", () => {
  const files = {
    "/proc/self/status": EIGHT,
    "/proc/self/cgroup": "0::/pod/app\n",
    "/sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
    "/sys/fs/cgroup/pod/cpu.max": "250000 100000\n",
  };
  assert.equal(cpusWith(files), 3);
  assert.equal(cpusWith({ ...files, "/sys/fs/cgroup/pod/app/cpu.max": "150000 100000\n" }), 2);
  assert.equal(cpusWith({ ...files, "/sys/fs/cgroup/pod/app/cpu.max": "20000 100000\n" }), 1);
});

test("a quota of cgroup v1 limits, even when the path is that of another namespace", () => {
  const files = {
    "/proc/self/status": EIGHT,
    "/proc/self/cgroup": "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/docker/1\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
  };
  assert.equal(cpusWith({ ...files, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n" }), 4);
  assert.equal(cpusWith({ ...files, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n" }), 8);
});

test("it is at least one where nothing can be read, and a real number here", () => {
  assert.equal(cpusWith({}), 1);
  assert.ok(availableCpus() >= 1);
});
