/**
 * Measures how long capacity is reduced after a crash: `node bench/standby.ts [--rounds N] [--boot D] [--without]`. Two
 * workers behind Envoy take D (5s) to boot, and one of them is killed with SIGKILL. The result is the time until Envoy
 * balances over two workers again, polled about every millisecond, from the exit that the controller saw and from the kill.
 * Measures with a standby worker, and with `--without` also without one. Prints medians, minima and maxima.
 */
import { parseArgs } from "node:util";
import { ControllerUnderTest, eventually } from "../test/support/controller.ts";
import { untilEndpoints } from "../test/support/envoyEndpoints.ts";
import { freePorts } from "../test/support/ports.ts";
import { proxyPool } from "../test/support/traffic.ts";
import { eventsOf } from "../test/support/watch.ts";

interface Round {
  readonly fromExitMs: number;
  readonly fromKillMs: number;
}

async function measure(standby: number, rounds: number, boot: string): Promise<Round[]> {
  const adminPort = await freePorts(1);
  const { workers, target } = await proxyPool({
    replicas: 2,
    args: ["--slow-boot", boot],
    more: { standby },
    server: { admin_port: adminPort },
  });
  if (!("port" in target)) throw new Error("the pool has no port");
  const firstPort = target.port + 1;
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const found: Round[] = [];
  while (found.length < rounds) {
    const all = await eventually(async () => {
      const pool = (await controller.status()).pools.find(({ name }) => name === "web");
      const ready = (pool?.workers ?? []).filter(({ phase }) => phase === "ready");
      return ready.length === 2 + standby ? ready : undefined;
    }, "all workers are ready");
    const victim = all.find((worker) => !worker.standby);
    if (victim?.pid == null) throw new Error("there is no serving worker to kill");
    const exits = eventsOf(controller, "exited").length;
    const port = firstPort + victim.slot;
    const killedAt = performance.timeOrigin + performance.now();
    process.kill(victim.pid, "SIGKILL");
    if (standby === 0) await untilEndpoints(adminPort, ({ serving }) => !serving.includes(port));
    const isFull = ({ serving }: { readonly serving: readonly number[] }) =>
      serving.length === 2 && (standby === 0 || !serving.includes(port));
    const fullAt = await untilEndpoints(adminPort, isFull, 60_000);
    await controller.until(() => eventsOf(controller, "exited").length > exits, "the exit event");
    const exited = eventsOf(controller, "exited").at(-1);
    if (exited === undefined) throw new Error("no worker has exited");
    found.push({ fromExitMs: fullAt - Date.parse(exited.time), fromKillMs: fullAt - killedAt });
  }
  return found;
}

function describe(title: string, values: readonly number[]): string {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = ((sorted[Math.floor(middle - 0.5)] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2;
  const [least = 0, most = 0] = [sorted[0], sorted.at(-1)];
  return `${title.padEnd(44)} ${median.toFixed(1)} ms (${least.toFixed(1)} to ${most.toFixed(1)}, ${sorted.length} rounds)`;
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "10" },
    boot: { type: "string", default: "5s" },
    without: { type: "boolean", default: false },
  },
});
for (const standby of values.without ? [1, 0] : [1]) {
  const rounds = await measure(standby, Number(values.rounds), values.boot);
  const exits = rounds.map(({ fromExitMs }) => fromExitMs);
  console.log(describe(`standby ${standby}: exit to full capacity in Envoy`, exits));
  const kills = rounds.map(({ fromKillMs }) => fromKillMs);
  console.log(describe(`standby ${standby}: SIGKILL to full capacity in Envoy`, kills));
}
