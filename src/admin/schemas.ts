/**
 * The documents of the API, once, as JSON Schemas; the types in admin/api.ts are inferred from them. They are complete: a
 * test against a real controller fails if an answer has missing or additional properties.
 */

import { MAX_REPLICAS } from "../core/spec.ts";
import { CONTROLLER_PHASES, PHASES } from "../core/view.ts";
import {
  type Bounds,
  MAX_DUMPED_PROCESSES,
  MAX_LISTED_PROCESSES,
  PID_BOUNDS,
  PROFILE_HZ,
  PROFILE_SECONDS,
} from "./api.ts";

declare const VALUE: unique symbol;

/** A JSON Schema, draft 2020-12. T, the type of its values, exists only at compile time. */
export type Schema<T = unknown> = Readonly<Record<string, unknown>> & { readonly [VALUE]?: T };

/** The values of a schema. */
export type ValueOf<S> = S extends Schema<infer T> ? T : never;

const STRING: Schema<string> = { type: "string" };
const COUNT: Schema<number> = { type: "integer", minimum: 0 };
const SECONDS: Schema<number> = { type: "number", minimum: 0 };
const RATIO: Schema<number> = { type: "number", minimum: 0 };
const BOOLEAN: Schema<boolean> = { type: "boolean" };
const PID: Schema<number> = { type: "integer", minimum: PID_BOUNDS.least, maximum: PID_BOUNDS.most };
const TRUE: Schema<true> = { type: "boolean", const: true };
const TIME: Schema<string> = { type: "string", format: "date-time" };

function oneOf<const T extends string>(...values: readonly T[]): Schema<T> {
  return { type: "string", enum: values };
}

function orNull<T>(schema: Schema<T>): Schema<T | null> {
  return { ...schema, type: [schema["type"], "null"] };
}

/** The values of an object whose schema has these entries. */
type Values<P> = {
  readonly [K in keyof P as K extends `${string}?` ? never : K]: ValueOf<P[K]>;
} & { readonly [K in keyof P as K extends `${infer Name}?` ? Name : never]?: ValueOf<P[K]> };

/** An object with exactly these keys; those that end with a question mark may be absent. */
function object<P extends Readonly<Record<string, Schema>>>(entries: P): Schema<Values<P>> {
  const keys = Object.keys(entries);
  const properties = Object.fromEntries(keys.map((key) => [key.replace("?", ""), entries[key]]));
  return {
    type: "object",
    properties,
    required: keys.filter((key) => !key.endsWith("?")),
    additionalProperties: false,
  };
}

/** A whole number within bounds, with its default. */
export function bounded(bounds: Bounds): Schema<number> {
  return { type: "integer", minimum: bounds.least, maximum: bounds.most, default: bounds.default };
}

function listOf<T>(items: Schema<T>): Schema<readonly T[]> {
  return { type: "array", items };
}

const named: Record<string, Schema> = {};

/** Every schema by the name that routes use. */
export const SCHEMAS: Readonly<Record<string, Schema>> = named;

/** Names the schema of an object; the result refers to it. */
function define<P extends Readonly<Record<string, Schema>>>(name: string, entries: P): Schema<Values<P>> {
  named[name] = object(entries);
  return { $ref: `#/components/schemas/${name}` };
}

export const workerProcess = define("WorkerProcess", {
  pid: PID,
  parent_pid: COUNT,
  state: { ...STRING, description: "As in proc(5)" },
  cpu_seconds: { ...SECONDS, description: "Of this process alone" },
  rss_bytes: COUNT,
  command: { ...STRING, description: "At most 200 bytes; the name in brackets if there is no command line" },
});

export const workerDetail = define("WorkerDetail", {
  cpu_seconds: { ...orNull(SECONDS), description: "Of all its processes, including exited ones; never decreases" },
  rss_bytes: { ...orNull(COUNT), description: "Of all its processes" },
  process_count: { ...orNull(COUNT), description: "Live processes: the leader and its descendants" },
  "processes?": { ...listOf(workerProcess), maxItems: MAX_LISTED_PROCESSES },
  open_fds: { ...orNull(COUNT), description: "Of its leader" },
  max_fds: { ...orNull(COUNT), description: "Soft limit of its leader; null also if unlimited" },
  requests_total: { ...orNull(COUNT), description: "Requests sent to its slot; null without a proxy" },
  failed_requests_total: orNull(COUNT),
  requests_in_flight: orNull(COUNT),
  cpu_ratio: { ...orNull(RATIO), description: "CPUs in use, over the window of the balance" },
  requests_per_second: { ...orNull(RATIO), description: "Over the same window" },
});

export const worker = define("Worker", {
  id: STRING,
  pool: STRING,
  slot: COUNT,
  phase: oneOf(...PHASES),
  standby: { ...BOOLEAN, description: "Whether it is a standby worker: ready, but without requests" },
  incarnation: { ...COUNT, description: "Number of processes that this slot has had" },
  pid: orNull(COUNT),
  uptime_s: { ...orNull(SECONDS), description: "Since the process was spawned" },
  phase_s: { ...SECONDS, description: "Since the current phase began" },
  next_s: { ...orNull(SECONDS), description: "Until the next planned change" },
  proving: { ...BOOLEAN, description: "Whether it becomes ready at that time, because it has no probe" },
  in_flight: { ...orNull(COUNT), description: "Requests in flight while it drains; null in any other phase" },
  restarts: { ...COUNT, description: "Unplanned restarts" },
  last_exit: { ...orNull(STRING), description: "Exit code or signal of the previous process" },
  reason: STRING,
  waits_for: {
    ...orNull(STRING),
    description:
      "What it waits for before it is ready, with the result of the last attempt; null if it waits for nothing",
  },
  reports: { ...orNull(STRING), description: "What it last reported about its state (STATUS of sd_notify)" },
  "detail?": workerDetail,
});

export const operation = define("Operation", {
  id: { ...STRING, description: "Such as op-7 or reload-3; unique while the controller runs" },
  pool: STRING,
  what: oneOf("restart", "scale", "stop", "start", "reload"),
  state: oneOf("queued", "running", "succeeded", "failed"),
  done: { ...COUNT, description: "Workers replaced, started or stopped so far" },
  total: { ...COUNT, description: "Workers to replace, start or stop; 0 while it is queued, and for scale" },
  reason: { ...STRING, description: "Why it was requested" },
  "error?": { ...STRING, description: "Why it failed" },
  started_at: { ...orNull(TIME), description: "null while it is queued" },
  ended_at: { ...orNull(TIME), description: "null until it has ended" },
});

export const balance = define("Balance", {
  mode: oneOf("supervisor", "socket", "proxy"),
  algorithm: { ...orNull(STRING), description: "Of the proxy; null without a proxy" },
  window_s: { ...SECONDS, description: "Time over which the workers were compared" },
  cpu_spread: { ...orNull(RATIO), description: "Maximum / mean; null if there was too little load to compare" },
  requests_spread: orNull(RATIO),
  verdict: oneOf("unknown", "even", "uneven", "full"),
  advice: STRING,
});

export const pool = define("Pool", {
  name: STRING,
  role: oneOf("workers", "proxy"),
  fronts: { ...orNull(STRING), description: "For a proxy, the pool that it balances over" },
  type: oneOf("service", "oneshot"),
  waits_for: {
    ...orNull(STRING),
    description: "What its first worker waits for (`depends_on`); null once that has happened",
  },
  replicas: COUNT,
  ready: COUNT,
  healthy: BOOLEAN,
  desired_healthy_percentage: { ...RATIO, maximum: 100 },
  operations: listOf(operation),
  "balance?": balance,
  workers: listOf(worker),
});

export const status = define("Status", {
  version: STRING,
  pid: COUNT,
  phase: oneOf(...CONTROLLER_PHASES),
  healthy: BOOLEAN,
  ready: BOOLEAN,
  uptime_s: SECONDS,
  pools: listOf(pool),
});

export const health = define("Health", {
  phase: oneOf(...CONTROLLER_PHASES),
  healthy: { ...BOOLEAN, description: "As GET /health" },
  ready: { ...BOOLEAN, description: "As GET /health/ready" },
  pools: listOf(
    define("PoolHealth", {
      name: STRING,
      healthy: BOOLEAN,
      replicas: COUNT,
      ready: COUNT,
      completed: { ...COUNT, description: "Workers that restart.policy does not start again; not counted as missing" },
      desired_healthy_percentage: { ...RATIO, maximum: 100 },
    }),
  ),
});

export const operations = define("Operations", { operations: listOf(operation) });

export const accepted = define("Accepted", { accepted: TRUE });

export const operationAccepted = define("OperationAccepted", {
  accepted: TRUE,
  operation: { ...STRING, description: "Id of the operation" },
  since: { ...COUNT, description: "Number of the last event before it" },
});

export const scaleRequest = define("ScaleRequest", { replicas: { ...COUNT, minimum: 1, maximum: MAX_REPLICAS } });

export const dumpRequest = define("DumpRequest", {
  "pid?": { ...PID, description: "Only this process of the worker; all if absent" },
});

export const processDump = define("ProcessDump", {
  pid: PID,
  parent_pid: COUNT,
  relation: { ...STRING, description: "Its relation to the leader of the worker" },
  text: { ...STRING, description: "A summary in one line" },
  diagnosis: object({
    command: STRING,
    thread_count: COUNT,
    threads: {
      ...listOf(
        object({
          tid: COUNT,
          name: STRING,
          state: { ...STRING, description: "As in proc(5)" },
          waits_in: { ...orNull(STRING), description: "Kernel function" },
          syscall: orNull(STRING),
        }),
      ),
      description: "The main thread first; at most 16",
    },
    open_fds: orNull(COUNT),
    rss_bytes: COUNT,
    cpu_seconds: SECONDS,
    cpu_ratio: { ...orNull(RATIO), description: "CPUs in use during a tenth of a second" },
  }),
  kernel_stack: {
    ...orNull(listOf(STRING)),
    description: "Kernel functions, innermost first; null if they cannot be read",
  },
  stack: {
    ...orNull(object({ engine: oneOf("py-spy"), text: STRING })),
    description: "Stacks of the program, if its language is supported",
  },
  hint: { ...orNull(STRING), description: "Why an expected stack is missing, and what to do" },
});

export const dump = define("Dump", {
  id: STRING,
  pool: STRING,
  phase: oneOf(...PHASES),
  incarnation: COUNT,
  pid: { ...orNull(COUNT), description: "The leader" },
  text: { ...STRING, description: "What the first of the processes is doing, in one line" },
  process_count: { ...COUNT, description: "Live processes of the worker" },
  processes: {
    ...listOf(processDump),
    maxItems: MAX_DUMPED_PROCESSES,
    description: "Busiest first; if none uses a CPU, the one that seems stuck",
  },
});

export const profileRequest = define("ProfileRequest", {
  "seconds?": bounded(PROFILE_SECONDS),
  "hz?": bounded(PROFILE_HZ),
  "pid?": { ...PID, description: "A process of the worker; the busiest if absent" },
});

export const reloadRequest = define("ReloadRequest", { "dry_run?": { ...BOOLEAN, default: false } });

const CHANGE = object({ path: STRING, reason: STRING });

export const reload = define("Reload", {
  changes: { ...listOf(STRING), description: "What changes, one sentence each" },
  refused: {
    ...listOf(CHANGE),
    description: "Changes that require a restart of the controller; not applied",
  },
  failed: {
    ...listOf(CHANGE),
    description: "Changes that failed and were reverted; the next reload tries them again",
  },
  operations: {
    ...listOf(object({ id: STRING, pool: STRING })),
    description: "Operations that apply the changes",
  },
  since: { ...COUNT, description: "Number of the last event before it" },
});

named["Event"] = {
  type: "object",
  description: "Other keys depend on the kind",
  properties: {
    kind: STRING,
    seq: { ...COUNT, minimum: 1 },
    time: TIME,
    level: oneOf("debug", "info", "warn", "error"),
    message: STRING,
    code: STRING,
  },
  required: ["kind", "seq", "time", "level", "message"],
};

export const logFilesReopened = define("LogFilesReopened", {
  files: listOf(define("LogFile", { pool: STRING, path: { ...STRING, description: "Absolute path" } })),
});

export const logLine = define("LogLine", { stream: oneOf("stdout", "stderr"), line: STRING });

export const errorBody = define("Error", { error: object({ code: STRING, message: STRING }) });
