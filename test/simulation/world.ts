/**
 * A fake machine for the controller: a clock, processes that crash, ignore signals, leave survivors and refuse to
 * start, and an operator's orders. The seed determines everything. The invariants are checked after each event.
 */

import assert from "node:assert/strict";
import { after, type Instant, instant } from "../../src/base/time.ts";
import {
  type ControllerEffect,
  type ControllerEvent,
  type ControllerState,
  newController,
  stepController,
} from "../../src/core/controller.ts";
import type { LifecycleEvent } from "../../src/core/event.ts";
import type { ExitStatus } from "../../src/core/exit.ts";
import { maxSurgeOf } from "../../src/core/policy/rollout.ts";
import { countReady } from "../../src/core/pool/health.ts";
import type { Order } from "../../src/core/pool/order.ts";
import { stepPool } from "../../src/core/pool/pool.ts";
import { isStandby, takeCensus } from "../../src/core/pool/roster.ts";
import type { PoolState } from "../../src/core/pool/state.ts";
import {
  type ControllerPolicy,
  type ControllerSpec,
  emptied,
  type Milestone,
  type PoolSpec,
  type PoolType,
} from "../../src/core/spec.ts";
import { viewOf } from "../../src/core/viewOf.ts";
import type { WorkerEvent } from "../../src/core/worker/event.ts";
import type { ReadyState, WorkerState } from "../../src/core/worker/state.ts";
import { poolSpec } from "../support/poolSpec.ts";
import { SeededRandom } from "../support/random.ts";
import { type DescribedPool, SimulatedReloads } from "./reloads.ts";
import { checkStartOrder } from "./startOrder.ts";

/** One process with its group and its readiness. */
interface FakeProcess {
  readonly pool: number;
  readonly slot: number;
  readonly incarnation: number;
  readonly pid: number;
  leaderAlive: boolean;
  /** Number of processes in the group besides the leader. */
  survivors: number;
  /** When it will exit because of a signal; undefined if it has received none or ignores it. */
  endsAt: Instant | undefined;
  /** When it answers its first probe; undefined if never. */
  readyAt: Instant | undefined;
  /** Whether it received SIGTERM together with the controller, and the controller knows it. */
  wasGroupSignaled: boolean;
}

/** Maximum number of pools, including proxies. */
const MAX_POOLS = 5;

/** One simulated controller with its pools. */
export class World {
  readonly spec: ControllerSpec;
  state: ControllerState;
  now: Instant = instant(1000);
  finished: number | undefined;
  readonly #random: SeededRandom;
  readonly #mailbox: ControllerEvent[] = [];
  readonly #processes = new Map<string, FakeProcess>();
  readonly #totals: number[];
  /** Maximum number of live workers, by pool. */
  readonly #bounds: number[] = [];
  readonly #drainingProxies = new Set<number>();
  /** Ids of operations that have started and have not ended. */
  readonly #running = new Set<string>();
  readonly #ended = new Set<string>();
  /** Incarnations that may have another lifespan because their replacement failed, as pool/slot/incarnation. */
  readonly #postponed = new Set<string>();
  readonly #requested = new Set<string>();
  /** Reloads of the configuration; in the other half of the runs, reload orders come one by one. */
  readonly reloads: SimulatedReloads | undefined;
  #lastRevision = 1;
  #nextPid = 100;
  readonly #afterEvent: (world: World) => void;

  /** `afterEvent` runs after each event that the controller handled. */
  constructor(seed: number, afterEvent: (world: World) => void = () => {}) {
    this.#afterEvent = afterEvent;
    this.#random = new SeededRandom(seed);
    this.spec = randomSpec(this.#random);
    this.state = newController(this.spec, this.now);
    this.#totals = this.spec.pools.map(() => 0);
    if (seed % 2 === 0) this.reloads = this.#simulateReloads();
    this.#post({ kind: "boot", at: this.now, random: this.#random.next() });
  }

  /** Posts one random event, or lets time pass, and handles all consequences. */
  step(mayShutDown: boolean): void {
    const dice = this.#random.next();
    if (dice < 0.35) this.#passTime(this.#random.between(1, 400));
    else if (dice < 0.5) this.#passTime(this.#untilNextDeadline());
    else if (dice < 0.75) this.#crashOne();
    else if (dice < 0.85) this.#endSurvivor();
    else if (dice < 0.89) this.#operate();
    else if (dice < 0.91) this.#reachLimit();
    else if (dice < 0.94) this.#probe();
    else if (dice < 0.96) this.#deliverStale();
    else if (dice < 0.9608 && this.reloads === undefined) this.#addPools();
    else if (dice < 0.962) this.#post({ kind: "setPolicy", at: this.now, policy: randomPolicy(this.#random) });
    else if (mayShutDown && dice < 0.967) this.#requestShutdown();
    else if (dice >= 0.967 && this.#random.chance(0.5) && this.reloads !== undefined) this.#reload(this.reloads);
    else this.#passTime(this.#random.between(1000, 90_000));
    this.reloads?.check();
  }

  #simulateReloads(): SimulatedReloads {
    const { pools } = this.spec;
    const described = pools.flatMap((spec): DescribedPool[] => {
      const proxySpec = pools.find(({ fronts }) => fronts === spec.name);
      return spec.role === "proxy" ? [] : [{ spec, proxySpec }];
    });
    const isLeaving = () => this.state.phase !== "booting" && this.state.phase !== "running";
    const indexOf = (name: string) => this.state.pools.findIndex(({ spec }) => spec.name === name);
    return new SimulatedReloads(
      described,
      this.#random,
      {
        get isLeaving() {
          return isLeaving();
        },
        specOf: (name) => this.state.pools[indexOf(name)]?.spec,
        addPools: (specs) => this.#adopt({ kind: "addPools", at: this.now, specs }),
        setPolicy: (policy) => this.#adopt({ kind: "setPolicy", at: this.now, policy }),
        order: (name, id, order, reason) => {
          this.#requested.add(id);
          const [at, pool] = [this.now, indexOf(name)];
          this.#mailbox.push({ kind: "order", at, pool, id, order, reason, random: this.#random.next() });
        },
        emit: (event) => {
          if ("operation" in event) this.#requested.add(event.operation);
          this.#followOperation(event);
        },
      },
      {
        pool: (random, name, type) => {
          const spec = randomPool(random, name, type);
          return { spec, proxySpec: spec.drainMs === undefined ? undefined : proxyOf(spec) };
        },
        policy: randomPolicy,
      },
    );
  }

  #reload(reloads: SimulatedReloads): void {
    if (this.finished !== undefined) return;
    reloads.step();
    this.#handleMailbox();
  }

  /** Without other events in between, as the driver does. */
  #adopt(event: Extract<ControllerEvent, { kind: "addPools" | "setPolicy" }>): void {
    const before = this.state;
    const { state, effects } = stepController(this.state, event);
    this.state = state;
    // A higher start_parallelism admits workers.
    for (const effect of effects) this.#perform(effect);
    checkStartOrder(before, state);
  }

  /** A shutdown by a signal that may have been sent to every process. */
  #requestShutdown(): void {
    const isGroups = this.#random.chance(0.3) && this.state.shutdownRequests === 0;
    const groupWaitMs = this.#random.pick([0, 50]);
    this.#post({ kind: "shutdown", at: this.now, reason: "simulated", exitCode: 0, groupWaitMs });
    if (!isGroups || this.finished !== undefined || this.state.phase === "stopping") return;
    for (const process of this.#processes.values()) {
      const worker = this.#worker(process);
      // The controller may still signal a process that is stopping or has just started.
      process.wasGroupSignaled =
        worker !== undefined &&
        (worker.phase === "ready" || worker.phase === "unready" || worker.phase === "booting") &&
        worker.spawnedAt < this.now;
      if (process.wasGroupSignaled && this.#random.chance(0.7))
        process.endsAt = after(this.now, this.#random.between(0, 3000));
    }
    this.#post({ kind: "groupSignaled", at: this.now, signal: "SIGTERM" });
  }

  /** Requests a shutdown and lets time pass until it is complete. Fails if it does not complete. */
  shutDown(): void {
    if (this.finished === undefined)
      this.#post({ kind: "shutdown", at: this.now, reason: "end of simulation", exitCode: 0 });
    for (let turn = 0; this.finished === undefined; turn++) {
      assert.ok(turn < 10_000, "the shutdown does not complete");
      this.#passTime(Math.max(1, this.#untilNextDeadline()));
    }
    this.reloads?.answerAll();
    this.#handleMailbox();
    const overdue = [...this.#processes.values()].filter((process) => process.leaderAlive);
    assert.equal(overdue.length, 0, "a process outlives the controller");
    assert.equal(this.#running.size, 0, "an operation never ended");
    assert.deepEqual([...this.#requested.difference(this.#ended)], [], "a requested operation never ended");
  }

  #post(event: ControllerEvent): void {
    this.#mailbox.push(event);
    this.#handleMailbox();
  }

  #handleMailbox(): void {
    for (let next = this.#mailbox.shift(); next !== undefined; next = this.#mailbox.shift()) {
      const before = this.state;
      const { state, effects } = stepController(this.state, next);
      this.state = state;
      for (const effect of effects) this.#perform(effect);
      this.#check(before, next);
      this.#afterEvent(this);
    }
  }

  #postWorker(pool: number, slot: number, event: WorkerEvent): void {
    this.#post({ kind: "worker", pool, slot, event, random: this.#random.next() });
  }

  #perform(effect: ControllerEffect): void {
    switch (effect.kind) {
      case "spawn":
        this.reloads?.checkLaunch(this.state.pools[effect.pool]?.spec ?? poolSpec(), effect.revision);
        this.#spawn(effect.pool, effect.slot, effect.incarnation);
        return;
      case "signal":
      case "kill": {
        const process = this.#processes.get(`${effect.pool}/${effect.slot}`);
        assert.ok(
          process !== undefined && process.incarnation === effect.incarnation && process.pid === effect.pid,
          "a signal to an exited incarnation",
        );
        assert.ok(process.leaderAlive || process.survivors > 0, "a signal to an empty group");
        const worker = this.#worker(process);
        assert.ok(
          effect.kind === "kill" ||
            !process.wasGroupSignaled ||
            this.state.pools[effect.pool]?.spec.role === "proxy" ||
            worker?.phase !== "stopping" ||
            worker.order.cause !== "shutdown",
          "a second stop signal at a shutdown",
        );
        const obeys = effect.kind === "kill" || this.#random.chance(0.7);
        if (obeys) process.endsAt = after(this.now, effect.kind === "kill" ? 1 : this.#random.between(0, 3000));
        return;
      }
      case "drainProxy":
        this.#drainingProxies.add(effect.pool);
        return;
      case "finish":
        this.finished = effect.exitCode;
        return;
      case "emit":
        this.#followOperation(effect.event);
        this.#followReplacement(effect.event);
        this.reloads?.handle(effect.event);
        return;
      case "notifyReady":
      case "notifyStopping":
        return;
    }
  }

  #spawn(pool: number, slot: number, incarnation: number): void {
    const key = `${pool}/${slot}`;
    assert.ok(!this.#processes.has(key), `two live incarnations in slot ${key}`);
    const at = this.now;
    const random = this.#random.next();
    if (this.#random.chance(0.05)) {
      const event: WorkerEvent = { kind: "spawnFailed", at, incarnation, reason: "EAGAIN", random };
      this.#mailbox.push({ kind: "worker", pool, slot, event, random });
      return;
    }
    const pid = this.#nextPid++;
    const survivors = this.#random.chance(0.2) ? this.#random.between(1, 3) : 0;
    const readyAt = this.#random.chance(0.9) ? after(at, this.#random.between(0, 500)) : undefined;
    this.#processes.set(key, {
      pool,
      slot,
      incarnation,
      pid,
      leaderAlive: true,
      survivors,
      endsAt: undefined,
      readyAt,
      wasGroupSignaled: false,
    });
    const event: WorkerEvent = { kind: "spawned", at, incarnation, pid, random };
    this.#mailbox.push({ kind: "worker", pool, slot, event, random });
  }

  /** Each operation starts at most once and ends exactly once. */
  #followOperation(event: LifecycleEvent): void {
    if (!("operation" in event)) return;
    const { kind, operation } = event;
    if (kind === "operation_started") {
      assert.ok(!this.#running.has(operation), "an operation started twice");
      this.#running.add(operation);
    }
    if (kind !== "operation_finished" && kind !== "operation_failed") return;
    this.#running.delete(operation);
    assert.ok(!this.#ended.has(operation), "an operation ended twice");
    this.#ended.add(operation);
  }

  /** After a failed replacement or operation, workers whose lifespan may be over stay and have another one. */
  #followReplacement(event: LifecycleEvent): void {
    if (event.kind !== "rollout_aborted" && event.kind !== "operation_failed") return;
    for (const [pool, { spec, workers }] of this.state.pools.entries())
      if (spec.name === event.pool)
        for (const { slot, incarnation, ...worker } of workers) {
          const agesAt =
            spec.limits.lifespanMs === undefined ? undefined : spec.limits.lifespanMs * (1 - spec.limits.jitterRatio);
          if (agesAt !== undefined && "spawnedAt" in worker && after(worker.spawnedAt, agesAt) <= this.now)
            this.#postponed.add(`${pool}/${slot}/${incarnation}`);
        }
  }

  #passTime(ms: number): void {
    const target = after(this.now, ms);
    for (;;) {
      const next = Math.min(this.#nextDeadline(), this.#nextEnd());
      if (next > target) break;
      this.now = instant(Math.max(this.now, next));
      this.#fireDeadlines();
      this.#endDue();
      this.#answerProbes();
    }
    this.now = target;
  }

  #nextEnd(): number {
    let earliest = Number.POSITIVE_INFINITY;
    for (const process of this.#processes.values()) {
      earliest = Math.min(earliest, process.endsAt ?? earliest);
      if (this.#worker(process)?.phase === "booting") earliest = Math.min(earliest, process.readyAt ?? earliest);
    }
    return earliest;
  }

  #nextDeadline(): number {
    let earliest: number = this.state.deadline ?? Number.POSITIVE_INFINITY;
    for (const pool of this.state.pools) {
      earliest = Math.min(earliest, pool.deadline ?? earliest);
      for (const worker of pool.workers) earliest = Math.min(earliest, worker.deadline ?? earliest);
    }
    return earliest;
  }

  #untilNextDeadline(): number {
    const next = Math.min(this.#nextDeadline(), this.#nextEnd());
    return Number.isFinite(next) ? Math.max(0, next - this.now) : 100;
  }

  #fireDeadlines(): void {
    if (this.state.deadline !== undefined && this.state.deadline <= this.now)
      this.#post({ kind: "deadline", at: this.now });
    for (const [pool, { workers, deadline }] of this.state.pools.entries()) {
      if (deadline !== undefined && deadline <= this.now)
        this.#post({ kind: "poolDeadline", at: this.now, pool, random: this.#random.next() });
      for (const { slot } of workers) {
        const worker = this.state.pools[pool]?.workers[slot];
        if (worker?.deadline === undefined || worker.deadline > this.now) continue;
        this.#postWorker(pool, slot, { kind: "deadline", at: this.now, random: this.#random.next() });
      }
    }
  }

  #endDue(): void {
    for (const process of [...this.#processes.values()]) {
      if (process.endsAt === undefined || process.endsAt > this.now) continue;
      process.survivors = 0;
      if (process.leaderAlive) this.#exit(process, { kind: "signal", signal: "SIGTERM" });
      else this.#vacate(process);
    }
  }

  #exit(process: FakeProcess, status: ExitStatus): void {
    const { pool, slot, incarnation } = process;
    process.leaderAlive = false;
    const survivors = process.survivors > 0;
    if (!survivors) this.#processes.delete(`${pool}/${slot}`);
    this.#postWorker(pool, slot, {
      kind: "exited",
      at: this.now,
      incarnation,
      status,
      survivors,
      random: this.#random.next(),
    });
  }

  #vacate(process: FakeProcess): void {
    const { pool, slot, incarnation } = process;
    this.#processes.delete(`${pool}/${slot}`);
    this.#postWorker(pool, slot, { kind: "vacated", at: this.now, incarnation, random: this.#random.next() });
  }

  #crashOne(): void {
    const alive = [...this.#processes.values()].filter((process) => process.leaderAlive);
    if (alive.length === 0) return;
    const code = this.#random.chance(0.4) ? this.#random.pick([0, 3, 143]) : this.#random.between(0, 255);
    this.#exit(this.#random.pick(alive), { kind: "code", code });
  }

  #endSurvivor(): void {
    const left = [...this.#processes.values()].filter((process) => process.survivors > 0);
    if (left.length === 0) return;
    const process = this.#random.pick(left);
    process.survivors--;
    if (process.survivors === 0 && !process.leaderAlive) this.#vacate(process);
  }

  #worker({ pool, slot }: { pool: number; slot: number }): WorkerState | undefined {
    return this.state.pools[pool]?.workers[slot];
  }

  /** Booting processes answer their first probe when it is due. */
  #answerProbes(): void {
    for (const process of [...this.#processes.values()]) {
      const { pool, slot, incarnation, readyAt } = process;
      if (this.#worker(process)?.phase !== "booting" || readyAt === undefined || readyAt > this.now) continue;
      process.readyAt = undefined;
      this.#postWorker(pool, slot, { kind: "becameReady", at: this.now, incarnation });
    }
  }

  /** A probe result or news from the proxy about any worker, whether it fits the worker's state or not. */
  #probe(): void {
    const { pool, slot } = this.#anySlot();
    const incarnation = this.state.pools[pool]?.workers[slot]?.incarnation ?? 0;
    const mine = { at: this.now, incarnation };
    const reason = "simulated";
    const event = this.#random.pick([
      { kind: "answered", ...mine },
      { kind: "becameReady", ...mine },
      { kind: "becameUnready", ...mine, reason },
      { kind: "startupFailed", ...mine, reason },
      { kind: "livenessFailed", ...mine, reason },
      { kind: "livenessFailed", ...mine, reason },
      { kind: "becameAlive", ...mine },
      { kind: "waiting", ...mine, reason },
      { kind: "extended", ...mine, ms: 1000 },
      { kind: "inFlight", ...mine, count: 3 },
      { kind: "drained", ...mine },
      { kind: "drained", ...mine },
    ] as const satisfies readonly WorkerEvent[]);
    this.#postWorker(pool, slot, event);
    const [proxy] = this.#drainingProxies;
    if (proxy === undefined || this.#random.chance(0.5)) return;
    this.#drainingProxies.delete(proxy);
    this.#post({ kind: "proxyDrained", at: this.now, pool: proxy });
  }

  #operate(): void {
    const { pool, slot } = this.#anySlot();
    const spec = this.state.pools[pool]?.spec;
    if (spec === undefined || this.finished !== undefined) return;
    const slots = this.#random.chance(0.7) ? [slot] : undefined;
    const orders = [
      { kind: "stop", slots },
      { kind: "start", slots },
      { kind: "start", slots: undefined },
      { kind: "restart", slots },
      { kind: "restart", slots: undefined },
      { kind: "scale", replicas: this.#random.between(1, 6) },
    ] as const satisfies readonly Order[];
    const reloads = [
      { kind: "reload", spec: { ...spec, revision: ++this.#lastRevision } },
      { kind: "reload", spec: this.#changed(spec) },
      { kind: "reload", spec: this.#random.chance(0.2) ? emptied(spec) : spec },
    ] as const satisfies readonly Order[];
    const order = this.#random.pick(this.reloads === undefined ? [...orders, ...reloads] : orders);
    const id = this.#newId();
    this.#post({ kind: "order", at: this.now, pool, id, order, reason: "simulated", random: this.#random.next() });
  }

  /** Another configuration of the pool with the same name, role and proxy. */
  #changed(spec: PoolSpec): PoolSpec {
    if (spec.role === "proxy") return { ...spec, replicas: 1, signalTimeoutMs: 3000 };
    const { name, drainMs } = spec;
    const revision = this.#random.chance(0.5) ? ++this.#lastRevision : spec.revision;
    return { ...randomPool(this.#random, name, spec.type), drainMs, revision };
  }

  #newId(): string {
    const id = `op-${this.#requested.size + 1}`;
    this.#requested.add(id);
    return id;
  }

  /** Adds empty pools, as a reload does, and fills most of them at once. */
  #addPools(): void {
    const { length } = this.state.pools;
    if (length >= MAX_POOLS || this.finished !== undefined) return;
    const spec = randomPool(this.#random, `pool${length + 1}`);
    const specs = spec.drainMs === undefined ? [spec] : [spec, proxyOf(spec)];
    this.#post({ kind: "addPools", at: this.now, specs });
    for (const [index, added] of specs.entries()) {
      if (this.#random.chance(0.1)) continue;
      const order = { kind: "reload", spec: added } as const;
      const [pool, id] = [length + index, this.#newId()];
      this.#post({ kind: "order", at: this.now, pool, id, order, reason: "simulated", random: this.#random.next() });
    }
  }

  #reachLimit(): void {
    const { pool, slot } = this.#anySlot();
    const incarnation = this.state.pools[pool]?.workers[slot]?.incarnation ?? 0;
    const limit = this.#random.pick(["memory", "memory_hard", "requests"] as const);
    this.#postWorker(pool, slot, { kind: "limitReached", at: this.now, incarnation, limit, reason: "simulated" });
  }

  /** An event of an earlier incarnation, or a deadline that has not passed, must change nothing. */
  #deliverStale(): void {
    const { pool, slot } = this.#anySlot();
    const worker = this.state.pools[pool]?.workers[slot];
    if (worker === undefined) return;
    // A timer may fire while the event that ends its phase waits to be handled.
    const before = this.state;
    const random = this.#random.next();
    // The health of a new pool is first judged with its first event.
    if (this.#nextDeadline() > this.now && this.state.pools[pool]?.wasHealthy !== undefined) {
      this.#post({ kind: "deadline", at: this.now });
      this.#postWorker(pool, slot, { kind: "deadline", at: this.now, random });
      this.#post({ kind: "poolDeadline", at: this.now, pool, random });
      // A state that was restored from JSON lacks the keys of undefined values.
      const [expected, actual] = [before, this.state].map((state) => JSON.parse(JSON.stringify(state)));
      assert.deepEqual(actual, expected, "a stale deadline had an effect");
    }
    const event: WorkerEvent = {
      kind: "exited",
      at: this.now,
      incarnation: worker.incarnation - 1,
      status: { kind: "code", code: 1 },
      survivors: false,
      random: 0,
    };
    this.#postWorker(pool, slot, event);
    assert.deepEqual(this.state.pools[pool]?.workers[slot]?.phase, worker.phase, "a stale exit changed a worker");
  }

  #anySlot(): { pool: number; slot: number } {
    // A new pool may have no slot yet.
    const pools = [...this.state.pools.entries()].filter(([, { workers }]) => workers.length > 0);
    const [pool] = this.#random.pick(pools);
    return { pool, slot: this.#random.between(0, (this.state.pools[pool]?.workers.length ?? 1) - 1) };
  }

  #check(before: ControllerState, event: ControllerEvent): void {
    const { state } = this;
    checkStartOrder(before, state);
    assert.ok(
      state.deadline === undefined ||
        state.deadline >= this.now ||
        state.deadline !== before.deadline ||
        event.kind !== "deadline",
      "a controller deadline in the past was kept",
    );
    for (const [index, pool] of state.pools.entries()) {
      const oldPool = before.pools[index];
      if (pool === oldPool) continue;
      const poolSpec = pool.spec;
      let live = 0;
      let stoppingForGood = 0;
      for (const worker of pool.workers) {
        const process = this.#processes.get(`${index}/${worker.slot}`);
        if (hasPid(worker)) {
          live++;
          if ("order" in worker && (worker.order.cause === "operator" || worker.order.cause === "scale"))
            stoppingForGood++;
          assert.ok(
            process !== undefined && process.incarnation === worker.incarnation && process.pid === worker.pid,
            `worker ${worker.slot} has no such process`,
          );
        }
        if (worker.phase === "down" || worker.phase === "backoff")
          assert.equal(process, undefined, `a process runs in the empty slot ${worker.slot}`);
        if (
          event.kind === "worker" &&
          event.event.kind === "deadline" &&
          event.pool === index &&
          event.slot === worker.slot
        ) {
          // A worker that boots for longer than its lifespan is due as soon as it is ready.
          const hasMoved = worker.deadline !== oldPool?.workers[worker.slot]?.deadline;
          assert.ok(
            worker.deadline === undefined || worker.deadline > this.now || hasMoved,
            "a handled deadline did not move",
          );
        }
        if (
          event.kind === "worker" &&
          (event.event.kind === "exited" || event.event.kind === "vacated" || event.event.kind === "spawnFailed") &&
          event.pool === index &&
          event.slot === worker.slot &&
          worker !== oldPool?.workers[worker.slot] &&
          oldPool?.spec.restart.condition === "never"
        )
          assert.ok(
            worker.phase !== "backoff" || state.phase !== "running",
            "a worker waits for a restart that its policy forbids",
          );
        if (pool.leaving) assert.notEqual(worker.phase, "backoff", "a worker waits for a restart during shutdown");
        this.#checkAge(index, worker, poolSpec);
      }
      const bound = Math.max(boundOf(poolSpec), poolSpec.replicas + poolSpec.standby + pool.replacements.length);
      const counted = live - stoppingForGood;
      const beingSpawned = pool.workers.filter(({ phase }) => phase === "queued" || phase === "spawning").length;
      // Several orders handled in one step may each have started workers.
      if (oldPool !== undefined && oldPool.spec !== poolSpec)
        this.#bounds[index] = Math.max(this.#bounds[index] ?? 0, ...specsOf(oldPool).map(boundOf));
      const isAnyStopping = pool.workers.some((worker) => "order" in worker);
      // A shrinking pool keeps its old bound until the surplus workers have exited, and an operator's start takes effect
      // although another worker has not exited yet. A spawn whose result is pending cannot be undone, and a worker in
      // backoff restarts without an order.
      const inBackoff = pool.workers.filter((worker) => worker.phase === "backoff").length;
      const willLive = counted + beingSpawned + inBackoff;
      if (event.kind === "order") this.#bounds[index] = Math.max(this.#bounds[index] ?? 0, willLive);
      if ((willLive <= bound && !isAnyStopping) || bound > (this.#bounds[index] ?? 0)) this.#bounds[index] = bound;
      assert.ok(counted <= (this.#bounds[index] ?? 0), `${counted} live workers, limit is ${this.#bounds[index]}`);
      const wanted = pool.workers.filter((worker) => {
        if (worker.phase === "spawning") return worker.pendingStop === undefined;
        return worker.phase !== "down" && worker.phase !== "stopping" && worker.phase !== "draining";
      }).length;
      assert.ok(
        wanted <= poolSpec.replicas + poolSpec.standby + pool.replacements.length,
        `${wanted} workers are kept, limit is ${poolSpec.replicas} + ${poolSpec.standby} and ${pool.replacements.length} successors`,
      );
      assert.ok(
        !pool.workers.some(isStandby) || pool.leaving || countReady(pool) >= poolSpec.replicas,
        "a worker is a standby worker while a replica is missing",
      );
      assert.ok(
        pool.deadline === undefined ||
          pool.deadline > this.now ||
          event.kind !== "poolDeadline" ||
          event.pool !== index,
        "a handled deadline of a pool did not move",
      );
      // Replacements that have started continue if the policy then allows fewer, also after several orders in one step.
      if (pool.replacements.length > maxSurgeOf(poolSpec.rollout, poolSpec.replicas)) {
        const surges =
          oldPool === undefined ? [] : specsOf(oldPool).map((each) => maxSurgeOf(each.rollout, each.replicas));
        const allowed = Math.max(oldPool?.replacements.length ?? 0, ...surges);
        assert.ok(pool.replacements.length <= allowed, "more replacements than surge allows");
      }
      if (oldPool !== undefined) this.#checkProof(index, oldPool, pool, event);
      this.#checkTotals(index, pool.tally.spawns + pool.tally.restarts + pool.tally.sigkills);
    }
    if (this.#nextPid % 8 === 0) {
      viewOf(state);
      for (const { census, workers } of state.pools)
        assert.deepEqual(census, takeCensus(workers), "the census is wrong");
      this.#checkAtRest();
    }
  }

  /** A rollout of a probed pool stops no further predecessor until a new worker has been ready for min_ready. */
  #checkProof(index: number, past: PoolState, { spec, running, workers }: PoolState, event: ControllerEvent): void {
    if (spec.readiness.kind !== "probed" || past.spec !== spec) return;
    for (const { id, order, startedAt } of running) {
      if (order.kind === "stop" || order.kind === "start" || !past.running.some((each) => each.id === id)) continue;
      const isNew = (worker: WorkerState): worker is ReadyState =>
        worker.phase === "ready" && worker.spawnedAt >= startedAt && worker.revision === spec.revision;
      const hasProof = [...past.workers, ...workers].some(
        (worker) => isNew(worker) && after(worker.since, spec.rollout.minReadyMs) <= this.now,
      );
      if (hasProof || !workers.some(isNew)) continue;
      for (const worker of workers) {
        const before = past.workers[worker.slot];
        // A worker that exits by itself or reaches a limit may be succeeded at once.
        if (event.kind === "worker" && event.pool === index && event.slot === worker.slot) continue;
        if (this.#processes.get(`${index}/${worker.slot}`)?.leaderAlive !== true) continue;
        const isStopped = before?.phase === "ready" && "order" in worker && worker.order.cause === "rollout";
        assert.ok(
          !isStopped || before.spawnedAt >= startedAt,
          "a rollout continued before a new worker was ready for min_ready",
        );
      }
    }
  }

  /** A worker is due at the end of its lifespan, regardless of its probes, unless its replacement was abandoned. */
  #checkAge(pool: number, worker: WorkerState, { limits }: PoolSpec): void {
    if ((worker.phase !== "ready" && worker.phase !== "unready") || worker.due !== undefined) return;
    if (limits.lifespanMs === undefined || this.#postponed.has(`${pool}/${worker.slot}/${worker.incarnation}`)) return;
    const oldest = after(worker.spawnedAt, limits.lifespanMs * (1 + limits.jitterRatio));
    assert.ok(worker.deadline !== undefined && worker.deadline <= oldest, "a worker may outlive its lifespan");
  }

  /** Between events a pool has nothing left to do; otherwise it might wait for an event that never comes. */
  #checkAtRest(): void {
    for (const pool of this.state.pools) {
      // Its deadline is the next event.
      if (pool.deadline !== undefined && pool.deadline <= this.now) continue;
      const { effects } = stepPool(pool, { kind: "boot", at: this.now, random: 0.5 }, false);
      assert.deepEqual(effects, [], "a pool waits although it could act");
    }
  }

  #checkTotals(pool: number, total: number): void {
    assert.ok(total >= (this.#totals[pool] ?? 0), "a counter went down");
    this.#totals[pool] = total;
  }
}

/** The pool's specification, those that failing operations would restore, and those of queued operations. */
function specsOf({ spec, running, queue }: PoolState): PoolSpec[] {
  const ordered = queue.flatMap(({ order }) => {
    if (order.kind === "reload") return [order.spec];
    return order.kind === "scale" ? [{ ...spec, replicas: order.replicas }] : [];
  });
  return [spec, ...running.map(({ previous }) => previous), ...ordered];
}

/** Maximum number of live workers. */
function boundOf({ replicas, standby, rollout }: PoolSpec): number {
  return replicas + standby + maxSurgeOf(rollout, replicas);
}

function hasPid(worker: WorkerState): worker is Extract<WorkerState, { pid: number }> {
  return "pid" in worker && worker.pid !== undefined;
}

function randomSpec(random: SeededRandom): ControllerSpec {
  const pools: PoolSpec[] = [];
  for (let index = random.between(1, 3); index > 0; index--) pools.push(randomPool(random, `pool${index}`));
  const [fronted] = pools;
  if (fronted?.drainMs !== undefined) pools.push(proxyOf(fronted));
  return { ...randomPolicy(random), pools };
}

function randomPolicy(random: SeededRandom): ControllerPolicy {
  return {
    shutdownTimeoutMs: random.pick([500, 5000, 60_000]),
    preStopDelayMs: random.pick([0, 0, 1000]),
    startParallelism: random.pick([undefined, undefined, 1, 2]),
  };
}

/** A pool that depends on pools with lower numbers, so that there is no cycle. */
function randomPool(
  random: SeededRandom,
  name: string,
  type: PoolType = random.chance(0.2) ? "oneshot" : "service",
): PoolSpec {
  const base = poolSpec();
  const maxSurge = random.between(0, 2);
  const dependsOn: Record<string, Milestone> = {};
  for (let number = 1; number < Number(name.replace("pool", "")); number++)
    if (random.chance(0.4)) dependsOn[`pool${number}`] = random.pick(["started", "ready", "completed"] as const);
  const service = randomService(random, base, maxSurge, name);
  const spec = { ...service, dependsOn };
  return type === "oneshot" ? oneshotOf(spec) : spec;
}

/** As the configuration makes it. */
function oneshotOf(spec: PoolSpec): PoolSpec {
  return {
    ...spec,
    type: "oneshot",
    standby: 0,
    drainMs: undefined,
    readiness: { kind: "observed", surviveMs: 700 },
    restart: { ...spec.restart, condition: "on-failure", maxRestarts: spec.restart.maxRestarts ?? 0 },
    limits: { ...spec.limits, lifespanMs: undefined },
    rollout: { ...spec.rollout, maxSurge: 0, maxUnavailable: { percent: 100 } },
  };
}

function randomService(random: SeededRandom, base: PoolSpec, maxSurge: number, name: string): PoolSpec {
  return {
    ...base,
    name,
    replicas: random.between(1, 4),
    stopSignalTarget: random.pick(["group", "group", "leader"] as const),
    startupWaitMs: random.pick([0, 0, 300]),
    signalTimeoutMs: random.pick([0, 1000, 10_000]),
    desiredHealthyPercentage: random.pick([0, 50, 75, 100]),
    restart: {
      ...base.restart,
      condition: random.pick(["always", "always", "always", "on-failure", "never"] as const),
      expectedExitCodes: random.pick([[], [], [0], [0, 3]]),
      maxRestarts: random.pick([undefined, undefined, undefined, 0, 3, 30]),
      onExhausted: random.pick(["shutdown", "give-up-worker", "give-up-worker"] as const),
      backoff: { ...base.restart.backoff, jitter: 0.2 },
    },
    limits: { ...base.limits, lifespanMs: random.pick([undefined, 5000, 60_000]), jitterRatio: 0.1 },
    rollout: {
      maxSurge,
      maxUnavailable: maxSurge === 0 ? 1 : random.between(0, 1),
      minReadyMs: random.pick([0, 0, 800]),
    },
    readiness: random.pick([
      { kind: "observed", surviveMs: 0 },
      { kind: "observed", surviveMs: random.pick([0, 700, 5000]) },
      { kind: "probed", timeoutMs: 400 },
      { kind: "probed", timeoutMs: 60_000 },
    ] as const),
    drainMs: random.pick([undefined, 0, 3000]),
    standby: random.pick([0, 0, 1, 2]),
    livenessPacing: { coolDownMs: random.pick([0, 2000, 20_000]), recheckMs: random.pick([0, 1000, 11_000]) },
  };
}

function proxyOf({ name, dependsOn }: PoolSpec): PoolSpec {
  return poolSpec({
    name: `${name}-proxy`,
    dependsOn,
    role: "proxy",
    fronts: name,
    replicas: 1,
    readiness: { kind: "probed", timeoutMs: 5000 },
    rollout: { maxSurge: 0, maxUnavailable: 1, minReadyMs: 0 },
  });
}
