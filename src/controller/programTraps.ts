/** What `validate` and the log at a start warn about because of the program that a pool runs. */
import type { PoolConfig } from "../config/config.ts";
import { programOf } from "../config/program.ts";
import { templateText } from "../config/template.ts";
import { findTraps, type Trap } from "../programs/traps.ts";
import type { LaunchPlan } from "../runtime/process/launch.ts";

/** Each trap of a pool, with its path relative to the pool. */
export function programTraps(
  pool: PoolConfig,
  { env, configured }: Pick<LaunchPlan, "env" | "configured">,
): readonly { readonly path: string; readonly message: string }[] {
  const { replicas, autoscale, server, sockets, stopSignal, stopSignalTarget } = pool;
  const { exec, args } = programOf(pool);
  const traps = findTraps({
    words: [exec, ...args.map(templateText)],
    env,
    configured,
    // The number for `auto` may be larger where the configuration runs.
    hasManyWorkers: replicas !== 1 || (autoscale?.maxReplicas ?? 1) > 1,
    mode: server !== undefined ? "proxy" : sockets.length > 0 ? "sockets" : "own",
    stopSignal,
    stopSignalTarget,
    workerKeepaliveMs: server?.workerKeepaliveMs,
  });
  return traps.map(({ at, message }) => ({ path: pathOf(at, pool), message }));
}

function pathOf(at: Trap["at"], { command }: PoolConfig): string {
  if (typeof at !== "number") return at;
  if (command !== undefined) return "command";
  return at === 0 ? "exec" : `args[${at - 1}]`;
}
