import assert from "node:assert/strict";
import { test } from "node:test";
import { OomKills } from "./oomKills.ts";

for (const [version, cgroup, file, limit] of [
  [
    1,
    "4:memory:/app\n",
    "/sys/fs/cgroup/memory/app/memory.oom_control",
    "/sys/fs/cgroup/memory/app/memory.limit_in_bytes",
  ],
  [2, "0::/app\n", "/sys/fs/cgroup/app/memory.events", "/sys/fs/cgroup/app/memory.max"],
] as const) {
  test(`OOM kills in control groups of version ${version} are counted from the start, and each is claimed once`, () => {
    let count = 3;
    const files: Readonly<Record<string, () => string>> = {
      "/proc/self/cgroup": () => cgroup,
      [file]: () => `oom_kill_disable 0\nunder_oom 0\noom 9\noom_kill ${count}\n`,
      [limit]: () => "1048576\n",
    };
    const kills = new OomKills((path) => files[path]?.());
    assert.deepEqual([kills.total, kills.claim(), kills.limitBytes], [0, false, 1_048_576]);
    count = 5;
    assert.deepEqual([kills.claim(), kills.claim(), kills.claim()], [true, true, false]);
    assert.equal(kills.total, 2);
    count = 6;
    assert.equal(kills.takeUnclaimed(), 0, "its exit may be on the way");
    assert.equal(kills.takeUnclaimed(), 1);
    assert.equal(kills.claim(), false);
  });
}

test("no kill is claimed if the kernel does not count them", () => {
  const kills = new OomKills(() => undefined);
  assert.deepEqual([kills.total, kills.claim(), kills.takeUnclaimed()], [undefined, false, 0]);
});
