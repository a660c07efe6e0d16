/** Workers that leak memory behind Envoy are replaced under load before they grow too large, without failed requests. */
import assert from "node:assert/strict";
import { readlinkSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { readSystemUnits } from "../../src/runtime/os/linux.ts";
import { readRssPages } from "../../src/runtime/os/memoryReadings.ts";
import { ControllerUnderTest, listDescendants, PROCESSBIN } from "../support/controller.ts";
import { assertNoneFailed, proxyPool, readyRange, underTraffic } from "../support/traffic.ts";
import { eventsOf } from "../support/watch.ts";

/** How long the workers leak under load; the promise is a minute. */
const LEAK_SECONDS = 20;

const HARD_MIB = 400;

/** Samples the memory of all workers until it is stopped; returns the highest value of any worker, in MiB. */
function watchMemory(controller: ControllerUnderTest): { stop(): number } {
  const { pageBytes } = readSystemUnits();
  let largest = 0;
  const look = () => {
    for (const pid of listDescendants(controller.pid)) {
      if (!isWorker(pid)) continue;
      largest = Math.max(largest, ((readRssPages(pid) ?? 0) * pageBytes) / 2 ** 20);
    }
  };
  const timer = setInterval(look, 200);
  return {
    stop() {
      clearInterval(timer);
      return largest;
    },
  };
}

function isWorker(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) === PROCESSBIN;
  } catch {
    return false;
  }
}

test("four workers that leak 20 MB per second are replaced without a failed request or exceeding the hard limit [R4]", async (context) => {
  const { workers, target } = await proxyPool({
    replicas: 4,
    args: ["--leak", "20"],
    more: { max_restarts: 0, limits: { memory: "200MiB", memory_hard: `${HARD_MIB}MiB` } },
  });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const memory = watchMemory(controller);
  let largest = 0;
  const reports = await underTraffic(target, async () => {
    await wait(LEAK_SECONDS * 1000);
    largest = memory.stop();
  });
  assertNoneFailed(reports);
  const due = eventsOf(controller, "limit_reached");
  context.diagnostic(
    `${due.length} replacements, largest ${largest.toFixed(0)} MiB, ${reports.keptAlive.counts.ok + reports.fresh.counts.ok} requests`,
  );
  assert.ok(due.length >= 4 && due.every(({ limit }) => limit === "memory"), JSON.stringify(due));
  assert.ok(largest > 200 && largest <= HARD_MIB, `${largest} MiB`);
  assert.ok(readyRange(controller).least >= 4);
  assert.equal(await controller.metric('monoceros_workerpool_sigkill_total{pool="web"}'), 0);
});
