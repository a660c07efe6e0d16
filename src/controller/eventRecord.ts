/** Where lifecycle events go: to the ring that the API reads, and to the log. */
import type { EventLog } from "../admin/events.ts";
import type { Logger } from "../base/log.ts";
import { isWorkerEvent, type LifecycleEvent } from "../core/event.ts";
import { workerId } from "../core/identity.ts";

/** Events that are always of level debug. */
const QUIET_EVENTS: ReadonlySet<LifecycleEvent["kind"]> = new Set([
  "starting",
  "spawned",
  "ready",
  "draining",
  "stopping",
  "stopped",
]);

/** Adds an event to the ring and writes it to the log: as a sentence for a person, otherwise with its fields. */
export function record(
  event: LifecycleEvent,
  events: EventLog,
  log: Logger,
  { isDebug, isReadable }: { readonly isDebug: boolean; readonly isReadable: boolean },
): void {
  if (!isDebug && QUIET_EVENTS.has(event.kind)) {
    events.addQuietly(event);
    return;
  }
  const { level, message, code } = events.add(event);
  if (isReadable) {
    log[level](message);
    return;
  }
  const worker = isWorkerEvent(event)
    ? { pool: event.pool, worker_id: workerId(event.pool, event.slot), incarnation: event.incarnation }
    : {};
  log[level](message, { event: event.kind, code, ...worker, pid: "pid" in event ? event.pid : undefined });
}
