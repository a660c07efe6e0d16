/** Lifecycle events as sentences, the same in the log of `-d`, the structured log and `events`. */
import type { ErrorCode } from "../base/errors.ts";
import type { LogLevel } from "../base/log.ts";
import { printable } from "../base/printable.ts";
import { formatDuration } from "../base/units.ts";
import { isWorkerEvent, type LifecycleEvent, type WideLifecycleEvent, type WorkerLifecycleEvent } from "./event.ts";
import { formatExit } from "./exit.ts";
import { workerId } from "./identity.ts";
import { SLOW_TO_READY_MS } from "./waiting.ts";

export interface EventDescription {
  /** debug: routine; info: worth logging in production; warn and error: worth the attention of an operator. */
  readonly level: LogLevel;
  /** One sentence, whose subject is the worker, the pool, the operation or the controller. */
  readonly text: string;
  /** The code of an operational error, for alerts. */
  readonly code?: ErrorCode;
}

/** The sentence and level for `event`. */
export function describeEvent(event: LifecycleEvent): EventDescription {
  if (!isWorkerEvent(event)) {
    const wide = describeWide(event);
    return { ...wide, text: printable(wide.text) };
  }
  const description = describeWorker(event);
  return { ...description, text: printable(`worker "${workerId(event.pool, event.slot)}" ${description.text}`) };
}

function describeWorker(event: WorkerLifecycleEvent): EventDescription {
  switch (event.kind) {
    case "starting":
      return { level: "debug", text: `is starting: ${event.reason}` };
    case "spawned":
      return { level: "debug", text: `started with pid ${event.pid}, incarnation ${event.incarnation}` };
    case "ready":
      return { level: "debug", text: `is ready after ${formatDuration(event.afterMs)}` };
    case "waiting":
      return {
        level: event.afterMs < SLOW_TO_READY_MS ? "debug" : "warn",
        text: `is not ready after ${formatDuration(event.afterMs)}: ${event.reason}`,
      };
    case "promoted":
      return { level: "info", text: `was promoted from standby: ${event.reason}` };
    case "unready":
      return { level: "warn", text: `is unready: ${event.reason}` };
    case "exited": {
      const was = event.status.kind === "signal" ? "was " : "";
      const how = `${was}${formatExit(event.status)} after ${formatDuration(event.uptimeMs)} (pid ${event.pid})`;
      if (event.cause === "expected") return { level: "info", text: `${how}, as expected` };
      return event.planned ? { level: "debug", text: how } : { level: "warn", text: `${how}, unplanned` };
    }
    case "spawn_failed":
      return { level: "error", text: `failed to start: ${event.reason}`, code: "SPAWN_FAILED" };
    case "backing_off":
      return {
        level: "info",
        text: `is restarting ${event.delayMs > 0 ? `in ${formatDuration(event.delayMs)}` : "now"}: ${event.reason}`,
      };
    case "draining":
      return {
        level: "debug",
        text: `is draining, ${formatDuration(event.boundMs)} drain limit: ${event.reason}`,
      };
    case "drained":
      return event.cut === 0
        ? { level: "debug", text: `finished its requests in ${formatDuration(event.afterMs)}` }
        : {
            level: "warn",
            text: `did not finish ${event.cut} request${event.cut === 1 ? "" : "s"} within ${formatDuration(event.afterMs)}; cutting ${event.cut === 1 ? "it" : "them"} off`,
          };
    case "stopping":
      return {
        level: "debug",
        text: `was sent ${event.signal}, ${formatDuration(event.graceMs)} grace period: ${event.reason}`,
      };
    case "killed":
      return { level: "warn", text: `was killed with its process group: ${event.reason}` };
    case "stopped":
      return {
        level: "debug",
        text: `stopped after ${formatDuration(event.durationMs)}${event.next === "respawn" ? "; restarting" : ""}`,
      };
    case "limit_reached":
      return { level: "info", text: `reached its ${event.limit} limit: ${event.reason}` };
    case "gave_up":
      return {
        level: "error",
        text: `reached its restart limit and stays down: ${event.reason}`,
        code: "RESTARTS_EXHAUSTED",
      };
    case "ended":
      return event.isFailure
        ? { level: "error", text: `failed and stays down: ${event.reason}` }
        : { level: "info", text: `completed: ${event.reason}` };
  }
}

function describeWide(event: WideLifecycleEvent): EventDescription {
  switch (event.kind) {
    case "pool_degraded":
      return { level: "warn", text: `pool "${event.pool}" is degraded: ${event.reason}` };
    case "pool_recovered":
      return { level: "info", text: `pool "${event.pool}" is healthy again: ${event.reason}` };
    case "pool_blocked":
      return event.isHopeless
        ? { level: "error", text: `pool "${event.pool}" cannot start: it is ${event.reason}`, code: "POOL_BLOCKED" }
        : { level: "info", text: `pool "${event.pool}" is ${event.reason}` };
    case "pool_unblocked":
      return { level: "info", text: `pool "${event.pool}" is starting; it was ${event.reason}` };
    case "rollout_started":
      return { level: "info", text: `pool "${event.pool}" is replacing a worker: ${event.reason}` };
    case "rollout_finished":
      return { level: "info", text: `pool "${event.pool}" replaced a worker: ${event.reason}` };
    case "rollout_aborted":
      return { level: "error", text: `pool "${event.pool}" abandoned a replacement: ${event.reason}` };
    case "proxy_update_late":
      return { level: "warn", text: `the proxy of pool "${event.pool}" still uses old endpoints: ${event.reason}` };
    case "proxy_update_refused":
      return { level: "error", text: `the proxy of pool "${event.pool}" keeps old endpoints: ${event.reason}` };
    case "log_file_failed":
      return {
        level: "error",
        text: `the log file of pool "${event.pool}" cannot be written: ${event.reason}`,
        code: "LOG_FILE_FAILED",
      };
    case "log_file_recovered":
      return { level: "warn", text: `the log file of pool "${event.pool}" is written again: ${event.reason}` };
    case "operation_queued":
    case "operation_started":
    case "operation_progressed":
    case "operation_finished":
    case "operation_failed":
      return describeOperation(event);
    case "audited":
      return { level: "info", text: `${event.who} requested: ${event.what}` };
    case "controller_started":
      return { level: "info", text: `controller is starting: ${event.reason}` };
    case "controller_ready":
      return { level: "info", text: `controller is ready after ${formatDuration(event.afterMs)}` };
    case "controller_stopping":
      return { level: "info", text: `controller is shutting down: ${event.reason}` };
    case "controller_draining":
      return { level: "info", text: `controller is draining: ${event.reason}` };
    case "controller_killing":
      return {
        level: "error",
        text: `controller is killing the remaining processes: ${event.reason}`,
        code: "SHUTDOWN_FORCED",
      };
    case "controller_stopped":
      return {
        level: event.exitCode === 0 ? "info" : "error",
        text: `controller stopped with exit code ${event.exitCode}: ${event.reason}`,
      };
  }
}

function describeOperation(event: Extract<WideLifecycleEvent, { operation: string }>): EventDescription {
  const what = `${event.what} of pool "${event.pool}" (${event.operation})`;
  const progress = event.total > 0 ? `, ${event.done} of ${event.total} done` : "";
  switch (event.kind) {
    case "operation_queued":
      return { level: "info", text: `${what} is queued behind another operation: ${event.reason}` };
    case "operation_started":
      return { level: "info", text: `${what} started: ${event.reason}` };
    case "operation_progressed":
      return { level: "info", text: `${what} is in progress${progress}` };
    case "operation_finished":
      return { level: "info", text: `${what} finished${progress}` };
    case "operation_failed":
      return { level: "error", text: `${what} failed${progress}: ${event.reason}`, code: "OPERATION_FAILED" };
  }
}
