/**
 * What a new configuration changes about a running one, as paths sorted by what they take: nothing here decides or does
 * anything. Every key of the schema has its class in CLASSES; one that is forgotten does not compile.
 *
 * Only values as they are in the two configurations are compared. What a path in them points to (`env_file`, the
 * executable, certificates) may have changed too; that is not seen here. No value is ever part of the result.
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

/** What a changed key takes. */
export type ChangeClass =
  /** Workers are replaced by ones that are started anew. */
  | "launch"
  /** Envoy is told while it runs. */
  | "proxy"
  /** It holds from now on; no process is replaced for it. */
  | "policy"
  /** It cannot change while the controller runs. */
  | "refused";

/** What changes about one pool; paths as in the new file, in the order of the schema. */
export interface PoolDiff {
  readonly name: string;
  /** A pool that is added or removed has no paths. */
  readonly kind: "added" | "removed" | "changed";
  readonly launch: readonly string[];
  readonly proxy: readonly string[];
  readonly policy: readonly string[];
}

/** A key that keeps the new configuration from being used. */
export interface RefusedChange {
  readonly path: string;
  readonly reason: string;
}

/** Everything that changes. */
export interface ConfigDiff {
  /** Paths about the controller itself that hold from now on. */
  readonly policy: readonly string[];
  readonly refused: readonly RefusedChange[];
  /** In the order of the new file, then the removed ones; without those that stay as they are. */
  readonly pools: readonly PoolDiff[];
}

type Block = Readonly<Record<string, unknown>>;

/** The class of a value: one that holds for all keys inside, several at once, or one for each key of a block. */
type ClassOf<T> =
  | ChangeClass
  | readonly ChangeClass[]
  | (NonNullable<T> extends string | number | boolean | readonly unknown[] ? never : Classes<NonNullable<T>>);

/** The class of a block that is added or removed as a whole. Without it a block whose keys differ is refused. */
const WHOLE_BLOCK = Symbol("the whole block");

/** A class for each key of a block. */
type Classes<T> = { readonly [Property in keyof T]-?: ClassOf<T[Property]> } & {
  readonly [WHOLE_BLOCK]?: ChangeClass;
};

const LOGS = {
  mode: "launch",
  // The controller makes the records, so no worker is concerned.
  maxLineBytes: "policy",
  stderrLevel: "policy",
} as const satisfies Classes<LogsConfig>;

const METRICS = {
  // A worker finds its metrics port, which the scope decides too, and its directory in its environment.
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
  // Envoy bounds by it how long it discourages clients.
  drainTimeoutMs: ["policy", "proxy"],
  healthCheckPath: "proxy",
  healthCheckHost: "proxy",
  loadBalancerAlgorithm: "proxy",
  hashOn: "proxy",
  listenerPort: "proxy",
  listenerAddress: "proxy",
  adminPort: "refused",
  proxyConfigPath: "refused",
  // What workers must speak changes with what Envoy speaks to them.
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
  // Pools are told apart by it, so it never changes.
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
  // What the file says is read again anyway; where it is, is not.
  tokenFile: "refused",
};

const CONFIG: Classes<Config> = { admin: ADMIN, supervisor: SUPERVISOR };

/** Whether a value of this class belongs to a process from its launch on. */
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
 * The part of the configuration that a revision of a pool holds: keys of class `launch`, and keys that never change. Any
 * other key may have changed since, so reading it from a revision does not compile; read the configuration in force.
 */
export type LaunchedPool = LaunchedKeys<PoolConfig, typeof POOL>;

const NEEDS_RESTART = "needs a restart of the controller";

/** What changes when `after` takes the place of `before`. */
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

/** Whether the two configurations are the same to a running controller. */
export function isEmptyDiff({ policy, refused, pools }: ConfigDiff): boolean {
  return policy.length === 0 && refused.length === 0 && pools.length === 0;
}

/**
 * The difference in words, a line for each thing that would be done; at least one line. Numbers of workers, by pool, are
 * told where they are known: those that run, or for a pool that is added those that will.
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

/** Paths without the part that the name of the pool says already. */
function keys(paths: readonly string[]): string {
  return paths.map((path) => path.replace(/^supervisor\.workers\[\d+\]\./u, "")).join(", ");
}

function agree(subjects: readonly string[], verb: "apply"): string {
  return subjects.length === 1 ? "applies" : verb;
}

/** Collects paths by class, in the order of the schema. */
class Changes {
  readonly launch: string[] = [];
  readonly proxy: string[] = [];
  readonly policy: string[] = [];
  readonly refused: string[] = [];

  /** Compares two values of a kind; `known` is their class. Lists and maps are one value. */
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
 * What a change of each key takes, by its path; items of lists are `[]`, as in `supervisor.workers[].sockets[].name`.
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

/** Whether two values of a configuration are the same; the order of a map's keys means nothing. */
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
