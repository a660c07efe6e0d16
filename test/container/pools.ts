/** Configurations for containers. */
import { poolOf } from "../support/controller.ts";

export const LISTENER = 10_000;
export const ADMIN = 9000;

type Keys = Readonly<Record<string, unknown>>;

/** A configuration with these pools. `supervisor` contains further lines of that block. */
export function configOf(pools: readonly string[], supervisor = ""): string {
  return `admin: { port: ${ADMIN}, address: 127.0.0.1 }\nsupervisor:\n${supervisor}\n  workers:\n${pools.join("\n")}\n`;
}

/** A pool of small workers (worker.pl) behind Envoy. */
export function proxiedPool(replicas: number, more: Keys = {}): string {
  return poolOf({
    name: "web",
    replicas,
    exec: "perl",
    args: ["/opt/worker.pl"],
    server: { start_port: 9090, listener_port: LISTENER, listener_address: "127.0.0.1", health_check_path: "/health" },
    ...more,
  });
}

/** A pool of sleeping workers that are ready at once. */
export function idlePool(name: string, more: Keys = {}): string {
  return poolOf({ name, exec: "sleep", args: ["infinity"], rolling: { min_ready: "0s" }, ...more });
}
