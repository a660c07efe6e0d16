/**
 * The proxies: passes the routes of each pool (core/routing.ts) to its Envoy, and what Envoy reports to the daemon. Knows
 * which proxy belongs to which pool; makes no decisions.
 */
import { ControllerError } from "../../base/errors.ts";
import type { ProxyReadings } from "../../base/readings.ts";
import type { Instant } from "../../base/time.ts";
import type { LifecycleEvent, WideLifecycleEvent } from "../../core/event.ts";
import type { Incarnation, PoolIndex, Slot, WorkerRef } from "../../core/identity.ts";
import { routesOf } from "../../core/routing.ts";
import type { LimitsPolicy } from "../../core/spec.ts";
import type { ControllerView, PoolView } from "../../core/view.ts";
import { PoolProxy, type ProxyOptions } from "../../envoy/control/proxy.ts";
import type { AdminAddress, Upstream, UpstreamAddress } from "../../envoy/resources/settings.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { RequestBudgets } from "./requestBudgets.ts";

/** Interval at which the daemon is notified of the requests in flight of draining workers. */
const IN_FLIGHT_MS = 100;

/** One pool behind a proxy; indices are those of the daemon's pools. */
export interface ProxiedPool {
  readonly name: string;
  readonly pool: PoolIndex;
  readonly proxyPool: PoolIndex;
  readonly options: Pick<ProxyOptions, "settings" | "location">;
  /** Where the proxy connects to a worker of a revision. */
  readonly addressOf: (slot: Slot, revision: number) => UpstreamAddress | undefined;
  /** The current limits of the pool. */
  readonly limits: () => LimitsPolicy;
}

class Ingress implements Disposable {
  readonly pool: ProxiedPool;
  readonly proxy: PoolProxy;
  readonly #budgets: RequestBudgets;

  constructor(pool: ProxiedPool, clock: Clock, daemon: Daemon, report: (event: WideLifecycleEvent) => void) {
    this.pool = pool;
    const { name } = pool;
    const proxy = (incarnation: Incarnation): WorkerRef => ({ pool: pool.proxyPool, slot: 0, incarnation });
    const worker = (slot: Slot, incarnation: Incarnation): WorkerRef => ({ pool: pool.pool, slot, incarnation });
    this.#budgets = new RequestBudgets(pool.limits, Math.random);
    this.proxy = new PoolProxy({
      ...pool.options,
      clock,
      listener: {
        ready: (incarnation) => daemon.report(proxy(incarnation), { kind: "becameReady" }),
        failed: (incarnation, reason) => daemon.report(proxy(incarnation), { kind: "startupFailed", reason }),
        activated: (slot, incarnation) => daemon.report(worker(slot, incarnation), { kind: "becameReady" }),
        drained: (slot, incarnation) => daemon.report(worker(slot, incarnation), { kind: "drained" }),
        listenersDrained: () => daemon.proxyDrained(pool.proxyPool),
        requestsCounted: (slot, incarnation, total) => this.#count(daemon, slot, incarnation, total),
        updateLate: (waitedMs) =>
          report({ kind: "proxy_update_late", pool: name, reason: `not applied after ${Math.round(waitedMs)} ms` }),
        updateRefused: (reason) => report({ kind: "proxy_update_refused", pool: name, reason }),
        writeFailed: (error) => report({ kind: "proxy_update_refused", pool: name, reason: error.message }),
      },
    });
  }

  update(view: PoolView): void {
    const routes = routesOf(view);
    const upstreams = view.workers.flatMap(({ slot, incarnation, revision }): Upstream[] => {
      const state = routes.get(slot);
      const address = state === undefined ? undefined : this.pool.addressOf(slot, revision);
      return state === undefined || address === undefined ? [] : [{ slot, incarnation, address, state }];
    });
    this.proxy.update(upstreams);
  }

  #count(daemon: Daemon, slot: Slot, incarnation: Incarnation, total: number): void {
    if (!this.#budgets.isUsedUp(slot, incarnation, total)) return;
    const reason = `served ${total} requests`;
    daemon.report({ pool: this.pool.pool, slot, incarnation }, { kind: "limitReached", limit: "requests", reason });
  }

  [Symbol.dispose](): void {
    this.proxy[Symbol.dispose]();
  }
}

export class Traffic implements Disposable {
  readonly #daemon: Daemon;
  readonly #clock: Clock;
  readonly #report: (event: WideLifecycleEvent) => void;
  #ingresses: readonly Ingress[] = [];
  #isUpdateQueued = false;
  #inFlightTimer: Disposable | undefined;

  /** `report` receives the events about proxy updates that operators need to know. */
  constructor(options: {
    daemon: Daemon;
    clock: Clock;
    report: (event: WideLifecycleEvent) => void;
  }) {
    this.#daemon = options.daemon;
    this.#clock = options.clock;
    this.#report = options.report;
  }

  /** Adds a pool behind a proxy. */
  add(pool: ProxiedPool): void {
    this.#ingresses = [...this.#ingresses, new Ingress(pool, this.#clock, this.#daemon, this.#report)];
  }

  /** Removes the proxy that is the pool with this index. Its process has exited and will not be restarted. */
  remove(proxyPool: PoolIndex): void {
    const removed = this.#ingressOf(proxyPool);
    removed?.[Symbol.dispose]();
    this.#ingresses = this.#ingresses.filter((ingress) => ingress !== removed);
  }

  /** Reads the files that the proxies of these pools need before their first start. Rejects with TLS_FILE_INVALID. */
  async loadFiles(pools: readonly string[]): Promise<void> {
    for (const { pool, proxy } of this.#ingresses)
      if (pools.includes(pool.name))
        await proxy.loadFiles().catch((cause: Error) => {
          const what = `Cannot start the proxy of pool "${pool.name}": its certificate or key cannot be read`;
          throw new ControllerError("TLS_FILE_INVALID", `${what}: ${cause.message}`, { cause });
        });
  }

  /** Whether the pool with this index is a proxy that was added. */
  hasProxy(proxyPool: PoolIndex): boolean {
    return this.#ingressOf(proxyPool) !== undefined;
  }

  /** Where the admin interface of the proxy that is the pool with this index listens; undefined if it is no proxy. */
  adminOf(proxyPool: PoolIndex): AdminAddress | undefined {
    return this.#ingressOf(proxyPool)?.pool.options.location.admin;
  }

  #ingressOf(proxyPool: PoolIndex): Ingress | undefined {
    return this.#ingresses.find(({ pool }) => pool.proxyPool === proxyPool);
  }

  /** The proxy that is the pool with this index. */
  proxyOf(proxyPool: PoolIndex): PoolProxy {
    const ingress = this.#ingressOf(proxyPool);
    if (ingress === undefined) throw new RangeError(`pool ${proxyPool} is no proxy`);
    return ingress.proxy;
  }

  /** The latest readings, by name of the pool. */
  readings(): ReadonlyMap<string, ProxyReadings> {
    return new Map(this.#ingresses.map(({ pool, proxy }) => [pool.name, proxy.readings()]));
  }

  /** Call for every lifecycle event: they start and end the processes of proxies. */
  handle(event: LifecycleEvent, worker?: WorkerRef): void {
    if (event.kind !== "spawned" && event.kind !== "exited" && event.kind !== "stopping") return;
    const ingress = worker && this.#ingressOf(worker.pool);
    if (ingress === undefined) return;
    if (event.kind === "spawned") ingress.proxy.spawned(event.incarnation);
    else if (event.kind === "exited") ingress.proxy.ended();
    // The next Envoy uses renewed files, or the last ones read if the renewed files cannot be read.
    if (event.kind !== "spawned") ingress.proxy.loadFiles().catch(() => {});
  }

  /** A worker passed its probe. It is ready at once; behind a proxy, only when the proxy balances over it. */
  becameReady(worker: WorkerRef): void {
    const isProxied = this.#ingresses.some(({ pool }) => pool.pool === worker.pool);
    this.#daemon.report(worker, { kind: isProxied ? "answered" : "becameReady" });
  }

  /** Call when the view has changed. All changes in one turn of the event loop share one update. */
  changed(): void {
    if (this.#isUpdateQueued || this.#ingresses.length === 0) return;
    this.#isUpdateQueued = true;
    queueMicrotask(() => {
      this.#isUpdateQueued = false;
      this.#update();
    });
  }

  [Symbol.dispose](): void {
    this.#inFlightTimer?.[Symbol.dispose]();
    for (const ingress of this.#ingresses) ingress[Symbol.dispose]();
  }

  #update(): void {
    const view = this.#daemon.view();
    for (const ingress of this.#ingresses) {
      const pool = view.pools.find(({ index }) => index === ingress.pool.pool);
      if (pool !== undefined) ingress.update(pool);
    }
    if (this.#inFlightTimer === undefined && isAnyDraining(view)) this.#armInFlight();
  }

  #armInFlight(): void {
    const at = (this.#clock.now() + IN_FLIGHT_MS) as Instant;
    this.#inFlightTimer = this.#clock.wakeAt(at, () => {
      this.#inFlightTimer = undefined;
      this.#reportInFlight();
      if (isAnyDraining(this.#daemon.view())) this.#armInFlight();
    });
  }

  #reportInFlight(): void {
    const { pools } = this.#daemon.view();
    for (const { pool, proxy } of this.#ingresses) {
      const workers = pools.find(({ index }) => index === pool.pool)?.workers ?? [];
      for (const { phase, slot, incarnation, inFlight } of workers) {
        if (phase !== "draining") continue;
        const count = proxy.inFlight(slot);
        if (count !== inFlight)
          this.#daemon.report({ pool: pool.pool, slot, incarnation }, { kind: "inFlight", count });
      }
    }
  }
}

function isAnyDraining(view: ControllerView): boolean {
  return view.pools.some((pool) => pool.workers.some(({ phase }) => phase === "draining"));
}
