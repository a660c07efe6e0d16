import assert from "node:assert/strict";
import { test } from "node:test";
import { availableCpus, countCpus } from "./cpus.ts";

function cpusWith(files: Readonly<Record<string, string>>): number {
  return availableCpus((path) => files[path]);
}

const EIGHT = "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n";

test("the CPUs in a list are counted", () => {
  assert.equal(countCpus("0"), 1);
  assert.equal(countCpus("0-3,8,10-11"), 7);
  assert.equal(countCpus(""), Number.POSITIVE_INFINITY);
});

test("without a quota the affinity mask decides", () => {
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

test("a quota of cgroup v2 is rounded up, and the lowest quota among the ancestors counts", () => {
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

test("a quota of cgroup v1 applies, even if the path belongs to another namespace", () => {
  const files = {
    "/proc/self/status": EIGHT,
    "/proc/self/cgroup": "5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/docker/1\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
  };
  assert.equal(cpusWith({ ...files, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n" }), 4);
  assert.equal(cpusWith({ ...files, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n" }), 8);
});

test("the result is at least one CPU if nothing can be read, and an integer on this machine", () => {
  assert.equal(cpusWith({}), 1);
  assert.ok(availableCpus() >= 1);
});
