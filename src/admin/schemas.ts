/**
 * JSON Schemas of the wire types in admin/api.ts, by the names that routes use. They are complete: a test against a
 * real controller fails if an answer has missing or additional properties.
 */

import { MAX_REPLICAS } from "../core/spec.ts";
import { PHASES } from "../core/view.ts";
import { MAX_DUMPED_PROCESSES, MAX_LISTED_PROCESSES, PID_BOUNDS, PROFILE_HZ, PROFILE_SECONDS } from "./api.ts";

/** A JSON Schema, draft 2020-12. */
export type Schema = Readonly<Record<string, unknown>>;

const STRING: Schema = { type: "string" };
const COUNT: Schema = { type: "integer", minimum: 0 };
const SECONDS: Schema = { type: "number", minimum: 0 };
const RATIO: Schema = { type: "number", minimum: 0 };
const BOOLEAN: Schema = { type: "boolean" };
const PID: Schema = { type: "integer", minimum: PID_BOUNDS.least, maximum: PID_BOUNDS.most };
const TIME: Schema = { type: "string", format: "date-time" };

function orNull(schema: Schema): Schema {
  return { ...schema, type: [schema["type"], "null"] };
}

/** An object with exactly these keys, all required unless listed in `optional`. */
function object(properties: Readonly<Record<string, Schema>>, optional: readonly string[] = []): Schema {
  const required = Object.keys(properties).filter((key) => !optional.includes(key));
  return { type: "object", properties, required, additionalProperties: false };
}

/** A whole number within bounds, with its default. */
export function bounded(bounds: { readonly least: number; readonly most: number; readonly default: number }): Schema {
  return { type: "integer", minimum: bounds.least, maximum: bounds.most, default: bounds.default };
}

function listOf(name: string): Schema {
  return { type: "array", items: { $ref: `#/components/schemas/${name}` } };
}

/** Every schema by its name. */
export const SCHEMAS: Readonly<Record<string, Schema>> = {
  Status: object({
    version: STRING,
    pid: COUNT,
    phase: { type: "string", enum: ["booting", "running", "leaving", "draining", "stopping", "stopped"] },
    healthy: BOOLEAN,
    ready: BOOLEAN,
    uptime_s: SECONDS,
    pools: listOf("Pool"),
  }),
  Pool: object(
    {
      name: STRING,
      role: { type: "string", enum: ["workers", "proxy"] },
      fronts: { ...orNull(STRING), description: "For a proxy, the pool that it balances over" },
      replicas: COUNT,
      ready: COUNT,
      healthy: BOOLEAN,
      desired_healthy_percentage: { type: "number", minimum: 0, maximum: 100 },
      operations: listOf("Operation"),
      balance: { $ref: "#/components/schemas/Balance" },
      workers: listOf("Worker"),
    },
    ["balance"],
  ),
  Balance: object({
    mode: { type: "string", enum: ["supervisor", "socket", "proxy"] },
    algorithm: { ...orNull(STRING), description: "Of the proxy; null without a proxy" },
    window_s: { ...SECONDS, description: "Time over which the workers were compared" },
    cpu_spread: { ...orNull(RATIO), description: "Maximum / mean; null if there was too little load to compare" },
    requests_spread: orNull(RATIO),
    verdict: { type: "string", enum: ["unknown", "even", "uneven", "full"] },
    advice: STRING,
  }),
  Worker: object(
    {
      id: STRING,
      pool: STRING,
      slot: COUNT,
      phase: { type: "string", enum: [...PHASES] },
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
      detail: { $ref: "#/components/schemas/WorkerDetail" },
    },
    ["detail"],
  ),
  WorkerDetail: object(
    {
      cpu_seconds: { ...orNull(SECONDS), description: "Of all its processes, including exited ones; never decreases" },
      rss_bytes: { ...orNull(COUNT), description: "Of all its processes" },
      process_count: { ...orNull(COUNT), description: "Live processes: the leader and its descendants" },
      processes: { ...listOf("WorkerProcess"), maxItems: MAX_LISTED_PROCESSES },
      open_fds: { ...orNull(COUNT), description: "Of its leader" },
      max_fds: { ...orNull(COUNT), description: "Soft limit of its leader; null also if unlimited" },
      requests_total: { ...orNull(COUNT), description: "Requests sent to its slot; null without a proxy" },
      failed_requests_total: orNull(COUNT),
      requests_in_flight: orNull(COUNT),
      cpu_ratio: { ...orNull(RATIO), description: "CPUs in use, over the window of the balance" },
      requests_per_second: { ...orNull(RATIO), description: "Over the same window" },
    },
    ["processes"],
  ),
  WorkerProcess: object({
    pid: PID,
    parent_pid: COUNT,
    state: { ...STRING, description: "As in proc(5)" },
    cpu_seconds: { ...SECONDS, description: "Of this process alone" },
    rss_bytes: COUNT,
    command: { ...STRING, description: "At most 200 bytes; the name in brackets if there is no command line" },
  }),
  Operation: object(
    {
      id: STRING,
      pool: STRING,
      what: { type: "string", enum: ["restart", "scale", "stop", "start", "reload"] },
      state: { type: "string", enum: ["queued", "running", "succeeded", "failed"] },
      done: { ...COUNT, description: "Workers replaced, started or stopped so far" },
      total: COUNT,
      reason: { ...STRING, description: "Why it was requested" },
      error: { ...STRING, description: "Why it failed" },
      started_at: orNull(TIME),
      ended_at: orNull(TIME),
    },
    ["error"],
  ),
  Operations: object({ operations: listOf("Operation") }),
  Accepted: object({ accepted: { type: "boolean", const: true } }),
  OperationAccepted: object({
    accepted: { type: "boolean", const: true },
    operation: { ...STRING, description: "Id of the operation" },
    since: { ...COUNT, description: "Number of the last event before it" },
  }),
  ScaleRequest: object({ replicas: { type: "integer", minimum: 1, maximum: MAX_REPLICAS } }),
  Dump: object({
    id: STRING,
    pool: STRING,
    phase: { type: "string", enum: [...PHASES] },
    incarnation: COUNT,
    pid: { ...orNull(COUNT), description: "The leader" },
    text: { ...STRING, description: "What the first of the processes is doing, in one line" },
    process_count: { ...COUNT, description: "Live processes of the worker" },
    processes: {
      ...listOf("ProcessDump"),
      maxItems: MAX_DUMPED_PROCESSES,
      description: "Busiest first; if none uses a CPU, the one that seems stuck",
    },
  }),
  ProcessDump: object({
    pid: PID,
    parent_pid: COUNT,
    relation: { ...STRING, description: "Its relation to the leader of the worker" },
    text: { ...STRING, description: "A summary in one line" },
    diagnosis: object({
      command: STRING,
      thread_count: COUNT,
      threads: {
        type: "array",
        items: object({
          tid: COUNT,
          name: STRING,
          state: { ...STRING, description: "As in proc(5)" },
          waits_in: { ...orNull(STRING), description: "Kernel function" },
          syscall: orNull(STRING),
        }),
        description: "The main thread first; at most 16",
      },
      open_fds: orNull(COUNT),
      rss_bytes: COUNT,
      cpu_seconds: SECONDS,
      cpu_ratio: { ...orNull(RATIO), description: "CPUs in use during a tenth of a second" },
    }),
    kernel_stack: {
      type: ["array", "null"],
      items: STRING,
      description: "Kernel functions, innermost first; null if they cannot be read",
    },
    stack: {
      ...orNull(object({ engine: { type: "string", enum: ["py-spy"] }, text: STRING })),
      description: "Stacks of the program, if its language is supported",
    },
    hint: { ...orNull(STRING), description: "Why an expected stack is missing, and what to do" },
  }),
  DumpRequest: object({ pid: { ...PID, description: "Only this process of the worker; all if absent" } }, ["pid"]),
  ProfileRequest: object(
    {
      seconds: bounded(PROFILE_SECONDS),
      hz: bounded(PROFILE_HZ),
      pid: { ...PID, description: "A process of the worker; the busiest if absent" },
    },
    ["seconds", "hz", "pid"],
  ),
  ReloadRequest: object({ dry_run: { type: "boolean", default: false } }, ["dry_run"]),
  Reload: object({
    changes: { type: "array", items: STRING, description: "What changes, one sentence each" },
    refused: {
      type: "array",
      items: object({ path: STRING, reason: STRING }),
      description: "Changes that require a restart of the controller; not applied",
    },
    failed: {
      type: "array",
      items: object({ path: STRING, reason: STRING }),
      description: "Changes that failed and were reverted; the next reload tries them again",
    },
    operations: {
      type: "array",
      items: object({ id: STRING, pool: STRING }),
      description: "Operations that apply the changes",
    },
    since: { ...COUNT, description: "Number of the last event before it" },
  }),
  Event: {
    type: "object",
    description: "Other keys depend on the kind",
    properties: {
      kind: STRING,
      seq: { type: "integer", minimum: 1 },
      time: TIME,
      level: { type: "string", enum: ["debug", "info", "warn", "error"] },
      message: STRING,
      code: STRING,
    },
    required: ["kind", "seq", "time", "level", "message"],
  },
  LogLine: object({ stream: { type: "string", enum: ["stdout", "stderr"] }, line: STRING }),
  Error: object({ error: object({ code: STRING, message: STRING }) }),
};
