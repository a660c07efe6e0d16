/**
 * The controller machine as the rest of the controller sees it. Everything that happens is reported here; each report
 * becomes an event that carries the time and chance, and the driver handles it.
 */

import type { Instant } from "../base/time.ts";
import type { ControllerEvent, ControllerState } from "../core/controller.ts";
import type { LimitKind } from "../core/event.ts";
import type { ExitStatus } from "../core/exit.ts";
import type { Slot } from "../core/identity.ts";
import type { Order } from "../core/pool/order.ts";
import type { ControllerPolicy, ControllerSpec, PoolSpec } from "../core/spec.ts";
import type { ControllerView } from "../core/view.ts";
import { viewOf } from "../core/viewOf.ts";
import type { WorkerEvent } from "../core/worker/event.ts";
import type { Clock } from "./clock.ts";
import { Driver, type DriverListener, type ProcessControl } from "./driver/driver.ts";

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
  specOf(pool: number): PoolSpec {
    const spec = this.#driver.state.pools[pool]?.spec;
    if (spec === undefined) throw new RangeError(`there is no pool ${pool}`);
    return spec;
  }

  /** The current policy of the controller as a whole. */
  get policy(): ControllerPolicy {
    return this.#driver.state.policy;
  }

  /**
   * Requests a graceful shutdown; a second request kills all processes. `settleMs` is how long to wait for
   * `groupSignaled` before workers are sent their stop signal.
   */
  shutdown(reason: string, settleMs = 0): void {
    this.#dispatch({ kind: "shutdown", at: this.#clock.now(), reason, exitCode: 0, settleMs });
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
  order(pool: number, id: string, order: Order, reason: string): void {
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
  proxyDrained(pool: number): void {
    this.#dispatch({ kind: "proxyDrained", at: this.#clock.now(), pool });
  }

  /** The worker's probes pass, and its proxy may balance over it. */
  answered(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "answered", at: this.#clock.now(), incarnation });
  }

  /** The worker is ready and serves. */
  becameReady(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "becameReady", at: this.#clock.now(), incarnation });
  }

  /** The worker runs but must not receive traffic. */
  becameUnready(pool: number, slot: Slot, incarnation: number, reason: string): void {
    this.#worker(pool, slot, { kind: "becameUnready", at: this.#clock.now(), incarnation, reason });
  }

  /** The worker runs but will not become ready. */
  startupFailed(pool: number, slot: Slot, incarnation: number, reason: string): void {
    this.#worker(pool, slot, { kind: "startupFailed", at: this.#clock.now(), incarnation, reason });
  }

  /** The worker runs but fails its liveness probe. */
  livenessFailed(pool: number, slot: Slot, incarnation: number, reason: string): void {
    this.#worker(pool, slot, { kind: "livenessFailed", at: this.#clock.now(), incarnation, reason });
  }

  /** The worker passes its liveness probe, for the first time or again. */
  becameAlive(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "becameAlive", at: this.#clock.now(), incarnation });
  }

  /** What the worker waits for to become ready, and the result of the last attempt. */
  waiting(pool: number, slot: Slot, incarnation: number, reason: string): void {
    this.#worker(pool, slot, { kind: "waiting", at: this.#clock.now(), incarnation, reason });
  }

  /** The worker has reached the limit `limit`. */
  limitReached(pool: number, slot: Slot, incarnation: number, limit: LimitKind, reason: string): void {
    this.#worker(pool, slot, { kind: "limitReached", at: this.#clock.now(), incarnation, limit, reason });
  }

  /** Number of requests in flight while the worker drains. */
  inFlight(pool: number, slot: Slot, incarnation: number, count: number): void {
    this.#worker(pool, slot, { kind: "inFlight", at: this.#clock.now(), incarnation, count });
  }

  /** The worker receives no new requests and has finished all earlier ones. */
  drained(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "drained", at: this.#clock.now(), incarnation });
  }

  /** The leader of an incarnation was reaped. */
  exited(pool: number, slot: Slot, incarnation: number, status: ExitStatus, survivors: boolean): void {
    const [at, random] = [this.#clock.now(), this.#random()];
    this.#worker(pool, slot, { kind: "exited", at, incarnation, status, survivors, random });
  }

  /** All processes of an incarnation have exited. */
  vacated(pool: number, slot: Slot, incarnation: number): void {
    this.#worker(pool, slot, { kind: "vacated", at: this.#clock.now(), incarnation, random: this.#random() });
  }

  /** Reports a bug: kills all processes and makes no more decisions. */
  fail(error: unknown): void {
    this.#driver.fail(error);
  }

  #worker(pool: number, slot: Slot, event: WorkerEvent): void {
    this.#dispatch({ kind: "worker", pool, slot, event, random: this.#random() });
  }

  #dispatch(event: ControllerEvent): void {
    this.#driver.dispatch(event);
  }
}
