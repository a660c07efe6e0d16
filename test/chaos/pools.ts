/** The four pools of a chaos run, one for each way to distribute requests, and random valid changes for reloads. */
import { resolve } from "node:path";
import { PROCESSBIN, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import type { SeededRandom } from "../support/random.ts";

export const POOLS = ["ports", "sockets", "shared", "reuse"] as const;
export type PoolName = (typeof POOLS)[number];

/** Pools behind Envoy. */
export const PROXIED: readonly PoolName[] = ["ports", "sockets"];

export const MAX_REPLICAS = 4;

type Block = Readonly<Record<string, unknown>>;

/** The changeable configuration of a pool: its replicas, and keys changed by reloads. */
export interface Plan {
  readonly replicas: number;
  readonly keys: Block;
}

export type Plans = Readonly<Record<PoolName, Plan>>;

/** Addresses and files of a run, used by all of its controllers. */
export interface Places {
  /** The client port of each pool. */
  readonly clients: Readonly<Record<PoolName, number>>;
  readonly firstWorker: number;
  /** Directory for files of the run. */
  readonly directory: string;
}

/** Ports for the workers of a pool, including standby and surge workers. */
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

/** Values of keys that a reload may change. undefined is the default. */
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

/** The plan with one to three keys changed. */
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

/** Every pool has a memory limit, and restarts crashed workers soon and without limit. */
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
    // With long timeouts, because the machine may be busy: only a hung process should fail it.
    "probes.liveness": { http: { path: "/healthz" }, period: "2s", timeout: "2s", failure_threshold: 3 },
  };
}

/** Converts keys with dots to blocks and omits undefined values. */
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
