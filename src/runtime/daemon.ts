/**
 * The controller machine as the rest of the controller sees it. Everything that happens is reported here; each report
 * becomes an event that carries the time and chance, and the driver handles it.
 */

import type { Instant } from "../base/time.ts";
import type { ControllerEvent, ControllerState } from "../core/controller.ts";
import type { ExitStatus } from "../core/exit.ts";
import type { Incarnation, PoolIndex, WorkerRef } from "../core/identity.ts";
import type { Order } from "../core/pool/order.ts";
import type { ControllerPolicy, ControllerSpec, PoolSpec } from "../core/spec.ts";
import type { ControllerView } from "../core/view.ts";
import { viewOf } from "../core/viewOf.ts";
import type { DistributiveOmit, WorkerEvent } from "../core/worker/event.ts";
import type { Clock } from "./clock.ts";
import { Driver, type DriverListener, type ProcessControl } from "./driver/driver.ts";

/** An event about one process, without what each of them carries. */
type WorkerReport = DistributiveOmit<Extract<WorkerEvent, { incarnation: Incarnation }>, "at" | "incarnation">;

export class Daemon {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #driver: Driver;
  #viewed: { readonly state: ControllerState; readonly view: ControllerView } | undefined;

  constructor(options: { spec: ControllerSpec; clock: Clock; random: () => number; listener: DriverListener }) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#driver = new Driver(options);
  }

  /** Starts the workers. */
  boot(processes: ProcessControl): void {
    this.#driver.attach(processes);
    this.#dispatch({ kind: "boot", at: this.#clock.now(), random: this.#random() });
  }

  /** The current state of the controller and its pools. */
  view(): ControllerView {
    const { state } = this.#driver;
    if (this.#viewed?.state !== state) this.#viewed = { state, view: viewOf(state) };
    return this.#viewed.view;
  }

  /** Process ids of all proxies. Unlike `view()`, it is cheap even with hundreds of workers. */
  proxyPids(): readonly number[] {
    const proxies = this.#driver.state.pools.filter(({ spec }) => spec.role === "proxy");
    return proxies.flatMap(({ workers }) =>
      workers.flatMap((worker) => ("pid" in worker && worker.pid !== undefined ? [worker.pid] : [])),
    );
  }

  /** The current spec of a pool. */
  specOf(pool: PoolIndex): PoolSpec {
    const spec = this.#driver.state.pools[pool]?.spec;
    if (spec === undefined) throw new RangeError(`there is no pool ${pool}`);
    return spec;
  }

  /** The current policy of the controller as a whole. */
  get policy(): ControllerPolicy {
    return this.#driver.state.policy;
  }

  /**
   * Requests a graceful shutdown; a second request kills all processes. `groupWaitMs` is how long to wait for
   * `groupSignaled` before workers are sent their stop signal.
   */
  shutdown(reason: string, groupWaitMs = 0): void {
    this.#dispatch({ kind: "shutdown", at: this.#clock.now(), reason, exitCode: 0, groupWaitMs });
  }

  /** Every process of the controller's group or service received `signal` when the controller did, at `at`. */
  groupSignaled(signal: string, at: Instant): void {
    this.#dispatch({ kind: "groupSignaled", at, signal });
  }

  /** Time since the first shutdown request; undefined if there was none. */
  msSinceShutdownRequest(): number | undefined {
    const { shutdownBound, policy } = this.#driver.state;
    if (shutdownBound === undefined) return undefined;
    return this.#clock.now() - (shutdownBound - policy.shutdownTimeoutMs);
  }

  /** Requests an operation on a pool; events with this `id` report its progress. */
  order(pool: PoolIndex, id: string, order: Order, reason: string): void {
    this.#dispatch({ kind: "order", at: this.#clock.now(), pool, id, order, reason, random: this.#random() });
  }

  /** Adds pools, empty until an order fills them; returns the index of the first. */
  addPools(specs: readonly PoolSpec[]): number {
    const first = this.#driver.state.pools.length;
    this.#driver.dispatchFirst({ kind: "addPools", at: this.#clock.now(), specs });
    return first;
  }

  /** Replaces the policy of the controller as a whole. */
  setPolicy(policy: ControllerPolicy): void {
    this.#driver.dispatchFirst({ kind: "setPolicy", at: this.#clock.now(), policy });
  }

  /** The proxy that is pool `pool` has finished its requests. */
  proxyDrained(pool: PoolIndex): void {
    this.#dispatch({ kind: "proxyDrained", at: this.#clock.now(), pool });
  }

  /** What happened to a process, at the current time. */
  report({ pool, slot, incarnation }: WorkerRef, report: WorkerReport): void {
    const event: WorkerEvent = { ...report, at: this.#clock.now(), incarnation };
    this.#dispatch({ kind: "worker", pool, slot, event, random: this.#random() });
  }

  /** The leader of an incarnation was reaped. */
  exited(worker: WorkerRef, status: ExitStatus, survivors: boolean): void {
    this.report(worker, { kind: "exited", status, survivors, random: this.#random() });
  }

  /** All processes of an incarnation have exited. */
  vacated(worker: WorkerRef): void {
    this.report(worker, { kind: "vacated", random: this.#random() });
  }

  /** Reports a bug: kills all processes and makes no more decisions. */
  fail(error: unknown): void {
    this.#driver.fail(error);
  }

  #dispatch(event: ControllerEvent): void {
    this.#driver.dispatch(event);
  }
}
