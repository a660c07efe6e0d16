import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryBoundBytes } from "./cgroup.ts";

function boundWith(files: Readonly<Record<string, string>>): number | undefined {
  return memoryBoundBytes((path) => files[path]);
}

test("memory.max of cgroup v2 limits memory, and the lowest limit among the ancestors counts", () => {
  const files = {
    "/proc/self/cgroup": "0::/pod/app\n",
    "/sys/fs/cgroup/pod/app/memory.max": "2147483648\n",
    "/sys/fs/cgroup/pod/memory.max": "1073741824\n",
    "/sys/fs/cgroup/memory.max": "max\n",
  };
  assert.equal(boundWith(files), 2 ** 30);
  assert.equal(boundWith({ ...files, "/sys/fs/cgroup/pod/app/memory.max": "536870912\n" }), 2 ** 29);
});

test("in a cgroup namespace the own group is the root", () => {
  assert.equal(boundWith({ "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "1000000\n" }), 1_000_000);
});

test("memory.limit_in_bytes of cgroup v1 limits memory, even if the path belongs to another namespace", () => {
  const files = { "/proc/self/cgroup": "9:pids:/docker/1\n8:memory:/docker/1\n0::/docker/1\n" };
  assert.equal(boundWith({ ...files, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "536870912\n" }), 2 ** 29);
  assert.equal(boundWith({ ...files, "/sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": "5000\n" }), 5000);
});

test("without a limit the result is undefined", () => {
  assert.equal(boundWith({}), undefined);
  assert.equal(boundWith({ "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "max\n" }), undefined);
  assert.equal(
    boundWith({
      "/proc/self/cgroup": "8:memory:/\n",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }),
    undefined,
  );
  const real = memoryBoundBytes();
  assert.ok(real === undefined || real > 2 ** 20);
});
