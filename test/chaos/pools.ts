/** The four pools of a chaos run, one for each way to spread requests, and the random valid changes of a reload. */
import { resolve } from "node:path";
import { PROCESSBIN, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import type { SeededRandom } from "../support/random.ts";

export const POOLS = ["ports", "sockets", "shared", "reuse"] as const;
export type PoolName = (typeof POOLS)[number];

/** Pools with an Envoy in front. */
export const PROXIED: readonly PoolName[] = ["ports", "sockets"];

export const MAX_REPLICAS = 4;

type Block = Readonly<Record<string, unknown>>;

/** What may change about a pool: replicas, and keys that a reload changed. */
export interface Plan {
  readonly replicas: number;
  readonly keys: Block;
}

export type Plans = Readonly<Record<PoolName, Plan>>;

/** Places of a run; the same in all of its lives. */
export interface Places {
  /** Where clients of each pool connect. */
  readonly clients: Readonly<Record<PoolName, number>>;
  readonly firstWorker: number;
  /** For files of the run. */
  readonly directory: string;
}

/** Ports of workers that a pool may need at once: replicas, standby and surge. */
const WORKER_PORTS = 16;

export async function choosePlaces(directory: string): Promise<Places> {
  const first = await freePorts(POOLS.length + WORKER_PORTS);
  const [ports = 0, sockets = 0, shared = 0, reuse = 0] = POOLS.map((_, index) => first + index);
  return { clients: { ports, sockets, shared, reuse }, firstWorker: first + POOLS.length, directory };
}

export function firstPlans(): Plans {
  const plan: Plan = { replicas: 2, keys: {} };
  return { ports: plan, sockets: plan, shared: plan, reuse: plan };
}

/** Values of keys that a reload may change; undefined is the default. */
const CHANGES: Readonly<Record<string, { readonly values: readonly unknown[]; readonly proxied?: boolean }>> = {
  env: { values: [undefined, { CHAOS: "1" }, { CHAOS: "{{.Slot}}" }] },
  nice: { values: [undefined, 1, 2] },
  "limits.lifespan": { values: [undefined, "15s", "40s"] },
  "limits.requests": { values: [undefined, 300, 1000], proxied: true },
  "rolling.max_surge": { values: [undefined, 2, "50%"] },
  startup_wait_time: { values: [undefined, "50ms"] },
  desired_healthy_percentage: { values: [undefined, 50, 100] },
  signal_timeout: { values: [undefined, "8s"] },
  "logs.max_line": { values: [undefined, "256KiB"] },
  standby: { values: [undefined, 1], proxied: true },
  "server.load_balancer_algorithm": { values: [undefined, "LEAST_REQUEST", "RANDOM"], proxied: true },
  "server.max_queue": { values: [undefined, 512], proxied: true },
  "server.max_headers": { values: [undefined, 500], proxied: true },
};

/** The plan with a few keys changed. */
export function changed(plan: Plan, name: PoolName, random: SeededRandom): Plan {
  const keys: Record<string, unknown> = { ...plan.keys };
  const candidates = Object.entries(CHANGES).filter(([, { proxied }]) => proxied !== true || PROXIED.includes(name));
  for (let count = random.between(1, 3); count > 0; count--) {
    const [key, { values }] = random.pick(candidates);
    keys[key] = random.pick(values);
  }
  return { ...plan, keys };
}

/** The pools as YAML list items. */
export function formatPools(plans: Plans, { clients, firstWorker }: Places, ledger: string): string {
  const fixed: Readonly<Record<PoolName, Block>> = {
    ports: {
      args: ["--ledger", ledger],
      "server.port_arg": { name: "--port", start_port: firstWorker },
      ...proxied(clients.ports),
    },
    sockets: {
      args: ["--ledger", ledger],
      "server.socket_arg": { name: "--socket" },
      ...proxied(clients.sockets),
    },
    shared: {
      args: ["--ledger", ledger],
      sockets: [{ name: "http", listen: `127.0.0.1:${clients.shared}` }],
      "rolling.min_ready": "500ms",
    },
    reuse: {
      args: ["--ledger", ledger, "--host", "127.0.0.1", "--reuseport", "--port", clients.reuse],
      "rolling.min_ready": "500ms",
    },
  };
  return POOLS.map((name) => {
    const { replicas, keys } = plans[name];
    const flat = { ...fixed[name], ...COMMON, replicas, ...keys };
    return poolOf({ name, exec: PROCESSBIN, ...nested(flat) });
  }).join("\n");
}

/** Growth is noticed, crashes are restarted without end, and soon. */
const COMMON: Block = {
  "limits.memory": "220MB",
  "restart.backoff": { initial: "50ms", max: "1s" },
};

function proxied(port: number): Block {
  return {
    "server.exec": resolve("dist/envoy"),
    "server.listener_port": port,
    "server.listener_address": "127.0.0.1",
    "server.health_check_path": "/healthz",
    metrics: { path: "/metrics" },
    // Patient, because the machine may be busy: what fails it must be a process that hangs.
    "probes.liveness": { http: { path: "/healthz" }, period: "2s", timeout: "2s", failure_threshold: 3 },
  };
}

/** Keys with dots as blocks; undefined values are left out. */
function nested(flat: Block): Block {
  const result: Record<string, Record<string, unknown> | unknown> = {};
  for (const [key, value] of Object.entries(flat)) {
    if (value === undefined) continue;
    const [first = "", second] = key.split(".");
    if (second === undefined) result[first] = value;
    else result[first] = { ...(result[first] as Block | undefined), [second]: value };
  }
  return result;
}
