/** Many restarts leak no descriptors, processes or series. */
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, listDescendants } from "../support/controller.ts";
import { said, shellPool } from "../support/watch.ts";

interface Footprint {
  readonly fds: number;
  readonly processes: number;
  readonly series: number;
}

/** Resources of the controller while incarnation `nth` of the worker sleeps. */
async function footprintAt(controller: ControllerUnderTest, nth: number): Promise<Footprint> {
  await said(controller, "web-0", `sleeps ${nth}`);
  const worker = await eventually(async () => {
    const now = await controller.worker("web-0");
    return now.phase === "ready" && now.incarnation === nth ? now : undefined;
  }, "the worker sleeps");
  assert.equal(worker.restarts, nth - 1);
  const samples: Footprint[] = [];
  while (samples.length < 10) {
    const series = (await controller.metrics()).split("\n").filter((line) => line.startsWith("monoceros_")).length;
    const fds = readdirSync(`/proc/${controller.pid}/fd`).length;
    samples.push({ fds, processes: listDescendants(controller.pid).length, series });
  }
  // A sample may include its own connection or a process that is not reaped yet, but the minimum does not.
  const least = (of: (sample: Footprint) => number) => Math.min(...samples.map(of));
  return {
    fds: least(({ fds }) => fds),
    processes: least(({ processes }) => processes),
    series: least(({ series }) => series),
  };
}

for (const { name, dying } of [
  { name: "exit", dying: "exit 1" },
  { name: "exit and leave a grandchild outside their session", dying: "setsid sleep 1000 & exit 1" },
]) {
  test(`the controller has as many descriptors, processes and series after 200 workers that ${name} as after 20 [P4 M3]`, async (context: TestContext) => {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-leaks-"));
    context.after(() => rmSync(directory, { recursive: true }));
    await using controller = await ControllerUnderTest.start({
      workers: shellPool(
        "web",
        `case "$MONOCEROS_INCARNATION" in 20|200) echo "sleeps $MONOCEROS_INCARNATION"; exec sleep 1000;; esac; ${dying}`,
        { signal_timeout: "5s", restart: { backoff: { initial: "1ms", max: "1ms" } } },
      ),
    });
    const early = await footprintAt(controller, 20);
    process.kill(await controller.pidOf("web-0"), "SIGKILL");
    const late = await footprintAt(controller, 200);
    // The SIGKILL that this test sends adds one label of exits.
    assert.ok(late.series <= early.series + 1, `${late.series} after ${early.series}`);
    assert.deepEqual({ ...late, series: 0 }, { ...early, series: 0 });
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  });
}
