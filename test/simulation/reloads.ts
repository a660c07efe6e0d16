/**
 * Reloads of a simulated controller: random changes of a configuration file, claims that take time or fail, and proxies that
 * refuse their settings. Checks that no two pools hold the same socket, that workers are launched only with known
 * revisions, and that each pool ends with the configuration that is on record.
 */
import assert from "node:assert/strict";
import type { LifecycleEvent } from "../../src/core/event.ts";
import type { Order } from "../../src/core/pool/order.ts";
import { isSettled, newReloads, preparationsOf, stepReload } from "../../src/core/reload/reload.ts";
import type {
  PoolChange,
  PoolVersion,
  Preparation,
  ReloadEvent,
  ReloadRequest,
  ReloadState,
  ReloadStep,
  RunningPools,
} from "../../src/core/reload/state.ts";
import type { ControllerPolicy, PoolSpec, PoolType } from "../../src/core/spec.ts";
import type { SeededRandom } from "../support/random.ts";

/** The controller that the reloads change. */
export interface ReloadedController extends RunningPools {
  addPools(specs: readonly PoolSpec[]): void;
  setPolicy(policy: ControllerPolicy): void;
  order(pool: string, id: string, order: Order, reason: string): void;
  emit(event: LifecycleEvent): void;
}

/** A pool as a file describes it. */
export interface DescribedPool {
  readonly spec: PoolSpec;
  readonly proxySpec: PoolSpec | undefined;
}

export interface RandomFile {
  pool(random: SeededRandom, name: string, type?: PoolType): DescribedPool;
  policy(random: SeededRandom): ControllerPolicy;
}

const NAMES = ["pool1", "pool2", "pool3"];
/** Sockets that pools claim. */
const SOCKETS = 4;

export class SimulatedReloads {
  state: ReloadState;
  readonly #random: SeededRandom;
  readonly #controller: ReloadedController;
  readonly #file: RandomFile;
  /** What the outside world will answer. */
  readonly #answers: (() => void)[] = [];
  /** The socket that a configuration claims, by the number of the configuration. */
  readonly #sockets = new Map<number, number>();
  /** The pools that hold sockets, with the numbers of their configurations. */
  readonly #holders = new Map<string, number>();
  readonly #revisions = new Set<string>();
  /** What is in force, by the name of the pool. */
  readonly #inForce = new Map<string, PoolVersion>();
  #isRequested = false;
  #lastId = 0;

  constructor(pools: readonly DescribedPool[], random: SeededRandom, controller: ReloadedController, file: RandomFile) {
    this.#random = random;
    this.#controller = controller;
    this.#file = file;
    const versions = pools.map((pool) => this.#register(pool, this.#lastId + 1));
    this.state = newReloads(versions);
    for (const version of versions) {
      this.#holders.set(version.spec.name, version.id);
      this.#revisions.add(`${version.spec.name}/1`);
      this.#inForce.set(version.spec.name, version);
    }
  }

  /** Lets a claim or a proxy answer, or reads another file. */
  step(): void {
    if (this.#answers.length > 0 && this.#random.chance(0.7)) this.#answer();
    else if (!this.#isRequested && isSettled(this.state) && !this.#controller.isLeaving) this.#request();
  }

  /** Delivers all answers that are still missing. */
  answerAll(): void {
    while (this.#answers.length > 0) this.#answer();
  }

  #answer(): void {
    const [answer] = this.#answers.splice(this.#random.between(0, this.#answers.length - 1), 1);
    answer?.();
  }

  handle(event: LifecycleEvent): void {
    if (event.kind === "operation_finished" || event.kind === "operation_failed")
      this.#post({ kind: "ended", operation: event.operation, isSuccess: event.kind === "operation_finished" });
  }

  /** Fails if a worker is launched with a revision that does not exist. */
  checkLaunch({ name, role }: PoolSpec, revision: number): void {
    if (role === "workers")
      assert.ok(this.#revisions.has(`${name}/${revision}`), `${name} has no revision ${revision}`);
  }

  /** Once nothing is under way, each pool must run as it is on record. */
  check(): void {
    const { pools, operations, leaving } = this.state;
    if (this.#controller.isLeaving || this.#answers.length > 0) return;
    assert.ok(isSettled(this.state) || leaving.length > 0, "a pool waits for nothing");
    if (!isSettled(this.state) || operations.length > 0) return;
    assert.equal(leaving.length, 0, "a removal never ended");
    for (const pool of pools) {
      assert.ok(pool.phase === "running" && pool.proved !== undefined, "a pool was neither proved nor given up");
      const { spec, id, proxyId } = pool.wanted;
      const known = this.#inForce.get(spec.name);
      assert.deepEqual([known?.id, known?.proxyId], [id, proxyId], "another configuration is in force");
      assert.deepEqual(
        withoutCounts(this.#controller.specOf(spec.name)),
        withoutCounts(spec),
        "another specification runs",
      );
    }
  }

  #register({ spec, proxySpec }: DescribedPool, socket = this.#random.between(1, SOCKETS)): PoolVersion {
    const id = ++this.#lastId;
    this.#sockets.set(id, socket);
    return { id, proxyId: id, spec, proxySpec };
  }

  #request(): void {
    const random = this.#random;
    const present = this.state.pools.map(({ wanted }) => wanted);
    const removed = present.filter(() => random.chance(0.2));
    const kept = present.filter((version) => !removed.includes(version));
    const obstacles = [...this.state.leaving.map(({ version }) => version), ...removed];
    const changes: PoolChange[] = removed.map(({ spec }) => ({ kind: "removed", name: spec.name }));
    for (const version of kept) if (random.chance(0.4)) changes.push(this.#change(version));
    const absent = NAMES.filter((name) => !kept.some(({ spec }) => spec.name === name));
    for (const name of absent) {
      if (!random.chance(0.4)) continue;
      const version = this.#register(this.#file.pool(random, name));
      const socket = this.#sockets.get(version.id);
      // Two pools of one file never claim the same socket.
      const added = changes.flatMap((change) => (change.kind === "added" ? [change.version] : []));
      if ([...kept, ...added].some(({ id }) => this.#sockets.get(id) === socket)) continue;
      const blocking = obstacles.filter(({ id, spec }) => spec.name === name || this.#sockets.get(id) === socket);
      changes.push({ kind: "added", version, blockers: blocking.map(({ spec }) => spec.name) });
    }
    const names = [...kept.map(({ spec }) => spec.name), ...absent];
    const policy = random.chance(0.2) ? this.#file.policy(random) : undefined;
    this.#prepareRequest({ names, changes, policy });
  }

  #change(before: PoolVersion): PoolChange {
    const random = this.#random;
    const { name, type, drainMs, replicas } = before.spec;
    const isScaled = random.chance(0.3);
    const other = this.#file.pool(random, name, type).spec;
    const spec = { ...other, drainMs, replicas: isScaled ? other.replicas : replicas };
    const { proxySpec } = before;
    const signalTimeoutMs = random.pick([3000, 4000]);
    const { dependsOn } = spec;
    const pool = { spec, proxySpec: proxySpec && { ...proxySpec, dependsOn, signalTimeoutMs } };
    return {
      kind: "changed",
      version: this.#register(pool, this.#sockets.get(before.id)),
      isLaunched: random.chance(0.5),
      isScaled,
      isProxyChanged: proxySpec !== undefined && random.chance(0.5),
      reason: "something",
    };
  }

  /** The answer to the claims comes later; if they fail, nothing changes. */
  #prepareRequest(request: ReloadRequest): void {
    this.#isRequested = true;
    const prepared = preparationsOf(this.state, request);
    this.#answers.push(() => {
      this.#isRequested = false;
      if (this.#random.chance(0.1) || this.#controller.isLeaving) return;
      for (const each of prepared) this.#prepare(each);
      this.#post({ kind: "requested", request, prepared });
    });
  }

  #prepare({ version, revision, isNew }: Preparation): void {
    const { name } = version.spec;
    assert.ok(!this.#revisions.has(`${name}/${revision}`), "a revision was used twice");
    this.#revisions.add(`${name}/${revision}`);
    if (!isNew) return;
    const socket = this.#sockets.get(version.id);
    for (const [holder, id] of this.#holders)
      assert.ok(holder !== name && this.#sockets.get(id) !== socket, `${name} claims what ${holder} holds`);
    this.#holders.set(name, version.id);
    this.#inForce.set(name, version);
    const specs = [{ ...version.spec, revision }, version.proxySpec].flatMap((spec) => spec ?? []);
    this.#controller.addPools(specs.filter((spec) => this.#controller.specOf(spec.name) === undefined));
  }

  #post(event: ReloadEvent): void {
    const { state, steps } = stepReload(this.state, event, this.#controller);
    this.state = state;
    for (const step of steps) this.#perform(step);
    const running = state.pools.flatMap(({ phase, wanted }) => (phase === "running" ? [wanted.spec] : []));
    for (const name of this.#holders.keys())
      if (![...running, ...state.leaving].some((each) => each.name === name)) this.#holders.delete(name);
  }

  #perform(step: ReloadStep): void {
    switch (step.kind) {
      case "prepare":
        this.#answers.push(() => {
          const { name } = step.version.spec;
          const failure = this.#random.chance(0.2) ? "simulated" : undefined;
          if (failure === undefined) this.#prepare(step);
          this.#post({ kind: "prepared", pool: name, failure });
        });
        return;
      case "setPolicy":
        this.#controller.setPolicy(step.policy);
        return;
      case "putInForce":
        this.#inForce.set(step.version.spec.name, step.version);
        return;
      case "order":
        this.#controller.order(step.pool, step.id, { kind: "reload", spec: step.spec, keeps: step.keeps }, step.reason);
        return;
      case "reconfigure":
        this.#answers.push(() => this.#post({ kind: "reconfigured", step, isSuccess: this.#random.chance(0.7) }));
        return;
      case "releaseSockets":
        return;
      case "emit":
        this.#controller.emit(step.event);
        return;
    }
  }
}

/** An operator or the core chooses replicas and revision. */
function withoutCounts(spec: PoolSpec | undefined): Partial<PoolSpec> {
  return { ...spec, replicas: 0, revision: 0 };
}
