/**
 * The changes between a running configuration and a new one, as paths grouped by how they are applied. Nothing is
 * decided or applied here. Every key of the schema has its class in CLASSES; a missing key does not compile.
 *
 * Only the values in the two configurations are compared. Changes to the files that paths refer to (`env_file`, the
 * executable, certificates) are not detected here. No value is ever part of the result.
 */
import { invariant } from "../base/errors.ts";
import type {
  AdminConfig,
  Config,
  LogsConfig,
  MetricsConfig,
  PoolConfig,
  ServerConfig,
  SupervisorConfig,
} from "./config.ts";
import type { Kind, ObjectField } from "./field.ts";
import { configKind } from "./schema.ts";

/** How a changed key is applied. */
export type ChangeClass =
  /** Workers are replaced by newly started ones. */
  | "launch"
  /** The running Envoy is reconfigured. */
  | "proxy"
  /** It takes effect immediately; no process is replaced. */
  | "policy"
  /** It cannot change while the controller runs. */
  | "refused";

/** The changes of one pool; paths as in the new file, in schema order. */
export interface PoolDiff {
  readonly name: string;
  /** A pool that is added or removed has no paths. */
  readonly kind: "added" | "removed" | "changed";
  readonly launch: readonly string[];
  readonly proxy: readonly string[];
  readonly policy: readonly string[];
}

/** A key that prevents the new configuration from being used. */
export interface RefusedChange {
  readonly path: string;
  readonly reason: string;
}

/** All changes. */
export interface ConfigDiff {
  /** Paths of the controller itself that take effect immediately. */
  readonly policy: readonly string[];
  readonly refused: readonly RefusedChange[];
  /** Changed pools, in the order of the new file, then the removed ones. */
  readonly pools: readonly PoolDiff[];
}

type Block = Readonly<Record<string, unknown>>;

/** The class of a value: one class for all keys inside, several at once, or one for each key of a block. */
type ClassOf<T> =
  | ChangeClass
  | readonly ChangeClass[]
  | (NonNullable<T> extends string | number | boolean | readonly unknown[] ? never : Classes<NonNullable<T>>);

/** The class of adding or removing a whole block. If absent, such a change is refused. */
const WHOLE_BLOCK = Symbol("the whole block");

/** A class for each key of a block. */
type Classes<T> = { readonly [Property in keyof T]-?: ClassOf<T[Property]> } & {
  readonly [WHOLE_BLOCK]?: ChangeClass;
};

const LOGS = {
  mode: "launch",
  // The controller creates the records, so workers are not affected.
  maxLineBytes: "policy",
  stderrLevel: "policy",
} as const satisfies Classes<LogsConfig>;

const METRICS = {
  // A worker reads its metrics port, which also depends on the scope, and its directory from its environment.
  [WHOLE_BLOCK]: "launch",
  path: "policy",
  port: "launch",
  scope: "launch",
  multiproc: "launch",
} as const satisfies Classes<MetricsConfig>;

const SERVER = {
  exec: "refused",
  user: "refused",
  startPort: "launch",
  portArg: "launch",
  socketArg: "launch",
  signalTimeoutMs: "policy",
  // Envoy uses it to limit how long it discourages clients.
  drainTimeoutMs: ["policy", "proxy"],
  healthCheckPath: "proxy",
  healthCheckHost: "proxy",
  loadBalancerAlgorithm: "proxy",
  hashOn: "proxy",
  listenerPort: "proxy",
  listenerAddress: "proxy",
  adminPort: "refused",
  proxyConfigPath: "refused",
  // The protocol between Envoy and the workers must match on both sides.
  protocol: ["launch", "proxy"],
  requestTimeoutMs: "proxy",
  maxConcurrentPerWorker: "proxy",
  maxQueue: "proxy",
  workerKeepaliveMs: "proxy",
  maxHeaders: "proxy",
  maxHeaderBytes: "proxy",
  trustedHops: "proxy",
  concurrency: "refused",
  accessLog: "proxy",
  tls: "proxy",
} as const satisfies Classes<ServerConfig>;

const POOL = {
  // It identifies the pool, so it never changes.
  name: [],
  replicas: "policy",
  autoscale: "policy",
  exec: "launch",
  args: "launch",
  env: "launch",
  envFile: "launch",
  cwd: "launch",
  user: "launch",
  group: "launch",
  umask: "launch",
  nice: "launch",
  oomScoreAdj: "launch",
  rlimits: "launch",
  startupWaitMs: "policy",
  stopSignal: "policy",
  stopSignalTarget: "policy",
  signalTimeoutMs: "policy",
  maxRestarts: "policy",
  restartWindowMs: "policy",
  restart: "policy",
  desiredHealthyPercentage: "policy",
  limits: "policy",
  probes: "launch",
  rolling: "policy",
  standby: "policy",
  sockets: "refused",
  logs: LOGS,
  metrics: METRICS,
  server: SERVER,
} as const satisfies Classes<PoolConfig>;

const SUPERVISOR: Classes<SupervisorConfig> = {
  shutdownTimeoutMs: "policy",
  preStopDelayMs: "policy",
  runtimeDir: "refused",
  // Compared one by one.
  pools: [],
};

const ADMIN: Classes<AdminConfig> = {
  port: "refused",
  address: "refused",
  socket: "refused",
  // A change of the file's content is read anyway; a change of its path is refused.
  tokenFile: "refused",
};

const CONFIG: Classes<Config> = { admin: ADMIN, supervisor: SUPERVISOR };

/** Whether a value of this class is fixed when a process is launched. */
type IsLaunched<Class> = Class extends "policy" | "proxy"
  ? false
  : Class extends readonly [unknown, ...unknown[]]
    ? "launch" extends Class[number]
      ? true
      : false
    : true;

/** The keys of a block that a process is launched with, and the keys that never change. */
type LaunchedKeys<T, Table> = {
  readonly [Property in keyof T as Property extends keyof Table
    ? IsLaunched<Table[Property]> extends true
      ? Property
      : never
    : never]: Property extends keyof Table
    ? Table[Property] extends string | readonly unknown[]
      ? T[Property]
      : LaunchedKeys<NonNullable<T[Property]>, Table[Property]> | Extract<T[Property], undefined>
    : never;
};

/**
 * The part of the configuration that a revision of a pool holds: keys of class `launch`, and keys that never change.
 * Reading any other key from a revision does not compile, because it may be outdated; use the current configuration.
 */
export type LaunchedPool = LaunchedKeys<PoolConfig, typeof POOL>;

const NEEDS_RESTART = "needs a restart of the controller";

/** The changes when `after` replaces `before`. */
export function diffConfig(before: Config, after: Config): ConfigDiff {
  const poolsField = fieldOf(fieldOf(configKind, "supervisor").kind, "pools");
  const poolKind = poolsField.kind.parts?.type === "list" ? poolsField.kind.parts.item : poolsField.kind;
  const whole = new Changes();
  whole.compare(configKind, before, after, "", CONFIG);
  const refused = [...whole.refused];
  const left = new Map(before.supervisor.pools.map((pool) => [pool.name, pool]));
  const pools: PoolDiff[] = [];
  for (const [index, pool] of after.supervisor.pools.entries()) {
    const { name } = pool;
    const old = left.get(name);
    left.delete(name);
    if (old === undefined) {
      pools.push({ name, kind: "added", launch: [], proxy: [], policy: [] });
      continue;
    }
    const {
      launch,
      proxy,
      policy,
      refused: fixed,
    } = new Changes().compare(poolKind, old, pool, `supervisor.${poolsField.yaml}[${index}]`, POOL);
    refused.push(...fixed);
    if (launch.length + proxy.length + policy.length > 0) pools.push({ name, kind: "changed", launch, proxy, policy });
  }
  for (const name of left.keys()) pools.push({ name, kind: "removed", launch: [], proxy: [], policy: [] });
  return { policy: whole.policy, refused: refused.map((path) => ({ path, reason: NEEDS_RESTART })), pools };
}

/** Whether the two configurations are equivalent for a running controller. */
export function isEmptyDiff({ policy, refused, pools }: ConfigDiff): boolean {
  return policy.length === 0 && refused.length === 0 && pools.length === 0;
}

/**
 * The difference as text, at least one line, with a line for each action. `workers` gives known numbers of workers by
 * pool: those that run, or those that will run for a pool that is added.
 */
export function formatPlan(diff: ConfigDiff, workers: ReadonlyMap<string, number> = new Map()): string[] {
  if (isEmptyDiff(diff)) return ["nothing changes"];
  const lines = diff.refused.map(({ path, reason }) => `refused: ${path} ${reason}`);
  if (diff.policy.length > 0)
    lines.push(`controller: ${diff.policy.join(", ")} ${agree(diff.policy, "apply")} at once`);
  for (const { name, kind, launch, proxy, policy } of diff.pools) {
    const pool = `pool ${JSON.stringify(name)}`;
    const count = workers.get(name);
    const what = count === undefined ? "its workers" : `${count} ${count === 1 ? "worker" : "workers"}`;
    const isOne = count === 1;
    if (kind === "added") lines.push(`${pool} is added: ${what} ${isOne ? "starts" : "start"}`);
    if (kind === "removed") lines.push(`${pool} is removed: ${what} ${isOne ? "stops" : "stop"}`);
    if (launch.length > 0)
      lines.push(`${pool}: ${what} ${isOne ? "is" : "are"} replaced because ${keys(launch)} changed`);
    if (proxy.length > 0) lines.push(`${pool}: the proxy is told ${keys(proxy)}; it is not restarted`);
    if (policy.length > 0)
      lines.push(`${pool}: ${keys(policy)} ${agree(policy, "apply")} at once; no worker is replaced`);
  }
  return lines;
}

/** Paths without the prefix that the pool name already implies. */
function keys(paths: readonly string[]): string {
  return paths.map((path) => path.replace(/^supervisor\.workers\[\d+\]\./u, "")).join(", ");
}

function agree(subjects: readonly string[], verb: "apply"): string {
  return subjects.length === 1 ? "applies" : verb;
}

/** Collects paths by class, in schema order. */
class Changes {
  readonly launch: string[] = [];
  readonly proxy: string[] = [];
  readonly policy: string[] = [];
  readonly refused: string[] = [];

  /** Compares two values of a kind; `known` is their class. Lists and maps are compared as a whole. */
  compare(kind: Kind<unknown>, before: unknown, after: unknown, path: string, known: unknown): this {
    if (kind.parts?.type === "object" && isBlock(before) && isBlock(after)) {
      for (const { property, yaml, kind: inner } of kind.parts.fields) {
        const at = path === "" ? yaml : `${path}.${yaml}`;
        this.compare(inner, before[property], after[property], at, isBlock(known) ? known[property] : known);
      }
    } else if (!isEqual(before, after)) this.#add(path, known);
    return this;
  }

  #add(path: string, known: unknown): void {
    for (const each of classesOf(known, path)) this[each].push(path);
  }
}

/** The classes in an entry of the tables. */
function classesOf(known: unknown, path: string): readonly ChangeClass[] {
  invariant(known !== undefined, `${path} has no class`);
  if (isBlock(known)) return [(known as { readonly [WHOLE_BLOCK]?: ChangeClass })[WHOLE_BLOCK] ?? "refused"];
  return (Array.isArray(known) ? known : [known]) as readonly ChangeClass[];
}

/**
 * The classes of each key, by its path; items of lists are `[]`, as in `supervisor.workers[].sockets[].name`.
 * Blocks themselves are left out. A pool's name has no class.
 */
export function changeClasses(): ReadonlyMap<string, readonly ChangeClass[]> {
  const found = new Map<string, readonly ChangeClass[]>();
  const visit = (kind: Kind<unknown>, path: string, known: unknown): void => {
    const { parts } = kind;
    if (parts?.type === "object")
      for (const { property, yaml, kind: inner } of parts.fields)
        visit(inner, path === "" ? yaml : `${path}.${yaml}`, isBlock(known) ? known[property] : known);
    else if (parts?.type === "list" && parts.item.parts?.type === "object") visit(parts.item, `${path}[]`, known);
    else found.set(path, classesOf(known, path));
  };
  visit(configKind, "", { ...CONFIG, supervisor: { ...SUPERVISOR, pools: POOL } });
  return found;
}

function fieldOf(kind: Kind<unknown>, property: string): ObjectField {
  const fields = kind.parts?.type === "object" ? kind.parts.fields : [];
  const found = fields.find((field) => field.property === property);
  invariant(found !== undefined, `the schema has no ${property}`);
  return found;
}

function isBlock(value: unknown): value is Block {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether two values of a configuration are equal; the order of a map's keys is ignored. */
function isEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, index) => isEqual(item, b[index]));
  if (!isBlock(a) || !isBlock(b)) return false;
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && isEqual(a[name], b[name]))
  );
}
