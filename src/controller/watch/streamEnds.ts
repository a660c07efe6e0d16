/**
 * Ends the streams that a stopping worker still has through its proxy: server-sent events, WebSockets, gRPC streams and
 * requests that outlived the drain. Many servers wait for their connections before they run their shutdown hooks, and
 * Envoy lets streams on a removed endpoint run on, so such a worker would be killed at the end of its grace period.
 *
 * The worker receives its stop signal first, so that a server can end its streams itself, such as with a close frame. Then
 * the controller closes the remaining connections, and the worker has the rest of the grace period for its shutdown hooks.
 */
import type { Logger } from "../../base/log.ts";
import { after } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import type { LifecycleEvent } from "../../core/event.ts";
import type { Incarnation, Slot } from "../../core/identity.ts";
import type { ControllerView } from "../../core/view.ts";
import type { UpstreamAddress } from "../../envoy/resources/settings.ts";
import type { Clock } from "../../runtime/clock.ts";
import { listDescendants } from "../../runtime/os/procfs.ts";
import { endConnections } from "../../runtime/socket/connections.ts";

/** How long a drained server has to end its streams itself; at most a quarter of its grace period. */
const OWN_END_MS = 1000;

/** Share of the grace period in which a worker that was not drained may finish its requests. */
const UNDRAINED_SHARE = 0.75;

/** A pool behind a proxy. */
export interface StreamingPool {
  /** Index of the pool that is the proxy. */
  readonly proxyPool: number;
  /** undefined or 0 if workers are not drained. */
  readonly drainMs: number | undefined;
  /** Where a worker of a revision listens. */
  addressOf(slot: Slot, revision: number): UpstreamAddress | undefined;
}

export interface StreamEndsOptions {
  readonly clock: Clock;
  readonly log: Logger;
  readonly view: () => ControllerView;
  /** undefined for proxy pools and for pools without a proxy. */
  readonly poolOf: (name: string) => StreamingPool | undefined;
}

type Stopping = Extract<LifecycleEvent, { kind: "stopping" }>;

export class StreamEnds implements Disposable {
  readonly #options: StreamEndsOptions;
  readonly #drained = new Set<string>();
  readonly #timers = new Map<string, Disposable>();
  /** Pools whose connections the controller may not close; each is reported once. */
  readonly #refused = new Set<string>();

  constructor(options: StreamEndsOptions) {
    this.#options = options;
  }

  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (event.kind === "draining") this.#drained.add(keyOf(event));
    else if (event.kind === "stopping") this.#endLater(event);
    else if (event.kind === "exited") this.#forget(keyOf(event));
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers.values()) timer[Symbol.dispose]();
    this.#timers.clear();
  }

  #endLater(event: Stopping): void {
    const pool = this.#options.poolOf(event.pool);
    if (pool === undefined) return;
    const key = keyOf(event);
    // At a shutdown the proxy as a whole was drained before.
    const isDrained = this.#drained.has(key) || (event.cause === "shutdown" && (pool.drainMs ?? 0) > 0);
    const waitMs = isDrained ? Math.min(OWN_END_MS, event.graceMs / 4) : event.graceMs * UNDRAINED_SHARE;
    const { clock } = this.#options;
    this.#timers.get(key)?.[Symbol.dispose]();
    this.#timers.set(
      key,
      clock.wakeAt(after(clock.now(), waitMs), () => {
        this.#timers.delete(key);
        void this.#end(event, pool, waitMs);
      }),
    );
  }

  async #end(event: Stopping, pool: StreamingPool, waitMs: number): Promise<void> {
    const { view, log } = this.#options;
    const { pools } = view();
    const { slot, incarnation, pid } = event;
    const worker = pools
      .flatMap(({ workers }) => workers)
      .find((each) => each.pool === event.pool && each.slot === slot && each.incarnation === incarnation);
    const envoy = pools.find(({ index }) => index === pool.proxyPool)?.workers.find((each) => each.pid !== undefined);
    const address = worker === undefined ? undefined : pool.addressOf(slot, worker.revision);
    if (worker?.phase !== "stopping" || envoy?.pid === undefined || address === undefined) return;
    const ended = await endAtEitherSide(envoy.pid, pid, address);
    if ("refused" in ended) {
      if (this.#refused.has(event.pool)) return;
      this.#refused.add(event.pool);
      log.warn(
        `cannot end the open streams of worker "${worker.id}": pidfd_getfd failed with ${ended.refused}; ` +
          "a server that waits for them is killed at signal_timeout. Allow pidfd_getfd (Docker: --cap-add SYS_PTRACE)",
      );
    } else if (ended.count > 0) {
      const connections = `${ended.count} ${ended.count === 1 ? "connection" : "connections"}`;
      log.info(
        `worker "${worker.id}" still had ${connections} to its proxy ${formatDuration(waitMs)} after ${event.signal}: closed`,
      );
    }
  }

  #forget(key: string): void {
    this.#drained.delete(key);
    this.#timers.get(key)?.[Symbol.dispose]();
    this.#timers.delete(key);
  }
}

/** Closes Envoy's end, which is one process; the worker's end if Envoy runs as a user that the controller may not trace. */
async function endAtEitherSide(envoy: number, worker: number, address: UpstreamAddress) {
  const ended = await endConnections(envoy, address, "peer");
  if (!("refused" in ended)) return ended;
  let count = 0;
  for (const pid of [worker, ...listDescendants(worker)]) {
    const own = await endConnections(pid, address, "own");
    if ("refused" in own) return own;
    count += own.count;
  }
  return { count };
}

function keyOf({ pool, slot, incarnation }: { pool: string; slot: Slot; incarnation: Incarnation }): string {
  return `${pool}/${slot}/${incarnation}`;
}
