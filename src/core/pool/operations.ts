/** Carries out what operators requested: begins operations, follows them, and ends them with success or a reason. */
import type { Incarnation, Slot } from "../identity.ts";
import type { PoolSpec } from "../spec.ts";
import type { WorkerState } from "../worker/state.ts";
import type { PoolDraft } from "./draft.ts";
import { regate, whyHopeless } from "./gate.ts";
import { isDraftHealthy, measure } from "./health.ts";
import {
  concerns,
  hasEnded,
  isExclusive,
  isTargetDone,
  type Order,
  type QueuedOperation,
  type RunningOperation,
  type Target,
  targetsIn,
  targetsOf,
} from "./order.ts";
import { abandonOutdated, isProved } from "./replacements.ts";

/** Multiples of it, modulo 1, are spread evenly over 0 … 1 however many there are. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2;

/** Adds an operation; `operate` begins it. */
export function enqueue(draft: PoolDraft, operation: QueuedOperation): void {
  draft.queue = [...draft.queue, operation];
  if (draft.leaving || !mayBegin(draft, operation)) draft.emitOperation("operation_queued", operation);
}

/** Fails all operations. */
export function failAll(draft: PoolDraft, reason: string): void {
  for (const operation of [...draft.running, ...draft.queue])
    draft.emitOperation("operation_failed", operation, reason);
  draft.running = [];
  draft.queue = [];
}

/** Begins operations, follows those that run, and ends those that are done. Whether one began or ended. */
export function operate(draft: PoolDraft): boolean {
  let hasMoved = makeWay(draft);
  for (let next = nextToBegin(draft); next !== undefined; next = nextToBegin(draft)) {
    begin(draft, next);
    hasMoved = true;
  }
  const changed = draft.roster.takeChanged();
  for (const running of draft.running) hasMoved = follow(draft, running, changed) || hasMoved;
  return hasMoved;
}

/**
 * A reload of an unhealthy pool may repair it, and a removal ends it, so they do not wait for an operation that cannot
 * succeed without them. Whether an operation failed to make way.
 */
function makeWay(draft: PoolDraft): boolean {
  if (draft.queue.length === 0) return false;
  measure(draft);
  if (isDraftHealthy(draft)) return false;
  const { revision } = draft.spec;
  const next = draft.queue.find(({ order }) => {
    const resolved = resolve(draft, order);
    return resolved.kind === "reload" && (resolved.spec.revision !== revision || resolved.spec.replicas === 0);
  });
  const inTheWay = next === undefined ? [] : draft.running.filter(isExclusive);
  for (const running of inTheWay) fail(draft, running, `the pool is not healthy; ${next?.id} takes precedence`);
  return inTheWay.length > 0;
}

function nextToBegin(draft: PoolDraft): QueuedOperation | undefined {
  return draft.queue.find((operation) => mayBegin(draft, operation));
}

function mayBegin(draft: PoolDraft, operation: QueuedOperation): boolean {
  return !isExclusive(operation) || !draft.running.some(isExclusive);
}

function begin(draft: PoolDraft, queued: QueuedOperation): void {
  draft.queue = draft.queue.filter((each) => each !== queued);
  const order = resolve(draft, queued.order);
  const { reason } = queued;
  const previous = draft.spec;
  if (order.kind === "scale") respec(draft, { ...previous, replicas: order.replicas });
  else if (order.kind === "reload") respec(draft, order.spec);
  const left = targetsOf(order, draft.roster.workers, draft.spec);
  const running = { ...queued, order, startedAt: draft.at, left, total: left.length, previous };
  draft.running = [...draft.running, running];
  draft.roster.markAllChanged();
  draft.emitOperation("operation_started", running);
  for (const { slot } of left) {
    if (order.kind === "stop") draft.send(slot, { kind: "stop", order: { cause: "operator", reason, next: "down" } });
    const runsAgain = (order.kind === "restart" || order.kind === "reload") && hasEnded(draft.roster.at(slot));
    if (order.kind === "start" || runsAgain) draft.send(slot, { kind: "start", delayMs: 0, reason });
  }
}

/** What an order means for the pool as it is now. */
function resolve({ spec: { revision, replicas } }: PoolDraft, order: Order): Order {
  if (order.kind !== "reload") return order;
  const { keeps = [], spec } = order;
  const kept = {
    ...(keeps.includes("revision") ? { revision } : {}),
    ...(keeps.includes("replicas") ? { replicas } : {}),
  };
  return { ...order, spec: { ...spec, ...kept } };
}

function respec(draft: PoolDraft, spec: PoolSpec): void {
  adopt(draft, spec);
  abandonOutdated(draft, "a reload replaces its specification");
  draft.growSlots();
}

/** Makes `spec` the desired state. A new lifespan applies to running workers too. */
function adopt(draft: PoolDraft, spec: PoolSpec): void {
  const { limits: before } = draft.spec;
  regate(draft, spec);
  draft.spec = spec;
  const { limits } = spec;
  if (limits.lifespanMs === before.lifespanMs && limits.jitterRatio === before.jitterRatio) return;
  // One random number for all workers, spread evenly over them.
  for (const { slot } of draft.roster.workers)
    draft.send(slot, { kind: "relimit", random: (draft.random + slot * GOLDEN_RATIO) % 1 });
}

/** Looks at the targets that changed. Whether the operation ended. */
function follow(draft: PoolDraft, running: RunningOperation, changed: ReadonlySet<Slot> | undefined): boolean {
  const { order } = running;
  const { type } = draft.spec;
  const looked = targetsIn(running.left, changed);
  const done = new Set(looked.filter((each) => isTargetDone(order, each, draft.roster.at(each.slot), type)));
  let followed = running;
  if (done.size > 0) {
    followed = { ...running, left: running.left.filter((each) => !done.has(each)) };
    draft.running = draft.running.map((each) => (each === running ? followed : each));
  }
  const blocked = isExclusive(running) ? whyHopeless(draft) : undefined;
  const failure = draft.failures.get(running.id) ?? stoppedMeanwhile(draft, followed) ?? blocked;
  if (failure !== undefined) {
    fail(draft, followed, failure);
    return true;
  }
  if (done.size > 0) draft.emitOperation("operation_progressed", followed);
  if (followed.left.length === 0 && isSettled(draft, followed) && isProved(draft, followed)) {
    end(draft, followed, "operation_finished");
    return true;
  }
  for (const target of looked) if (!done.has(target)) pursue(draft, followed, target);
  return false;
}

/** Why a start cannot succeed any more: another operation stopped one of its workers. */
function stoppedMeanwhile({ roster, spec }: PoolDraft, { order, left }: RunningOperation): string | undefined {
  const stopped = order.kind === "start" ? left.find(({ slot }) => roster.at(slot).phase === "down") : undefined;
  return stopped === undefined ? undefined : `${spec.name}-${stopped.slot} was stopped before it was ready`;
}

/** A target that has become ready only now must be replaced like the others. */
function pursue(draft: PoolDraft, { order, reason }: RunningOperation, { slot, incarnation }: Target): void {
  if (order.kind === "restart") draft.send(slot, { kind: "replace", incarnation, reason });
  if (order.kind === "reload") renew(draft, slot, incarnation, reason);
}

/**
 * Replaces a process that was launched with an outdated specification. A booting worker serves no requests and may never
 * become ready, so it restarts at once.
 */
function renew(draft: PoolDraft, slot: Slot, incarnation: Incarnation, reason: string): void {
  draft.send(slot, { kind: "replace", incarnation, reason });
  const worker = draft.roster.at(slot);
  if (worker.incarnation !== incarnation || draft.isReplaced(slot) || draft.isSuccessor(slot)) return;
  // A queued worker is launched with what is desired when its turn comes.
  if (worker.phase !== "spawning" && worker.phase !== "booting") return;
  draft.send(slot, { kind: "stop", order: { cause: "rollout", reason, next: "respawn" } });
}

/**
 * Whether the pool is in its desired state. Workers that an operator stopped or that gave up are not waited for. A worker
 * that was ready once has arrived: whether its probe fails since then is the pool's health, not the operation's. The runs
 * of a oneshot pool that began with the operation must have completed.
 */
function isSettled({ roster, spec }: PoolDraft, { order, startedAt }: RunningOperation): boolean {
  if (order.kind === "stop" || order.kind === "start") return true;
  const { absent, leaving, arrived, inUse } = roster.census;
  if (spec.type === "oneshot") {
    const isOlder = (worker: WorkerState) => "spawnedAt" in worker && worker.spawnedAt < startedAt;
    return inUse === spec.replicas && roster.workers.every((worker) => worker.phase === "down" || isOlder(worker));
  }
  return arrived + absent === spec.replicas + spec.standby && leaving === 0;
}

function fail(draft: PoolDraft, operation: RunningOperation, reason: string): void {
  const { kind } = operation.order;
  if (kind === "restart" || kind === "reload")
    for (const worker of draft.roster.workers)
      if ("due" in worker && worker.due?.cause === "rollout")
        draft.send(worker.slot, { kind: "reprieve", random: draft.random });
  if (draft.spec.type === "oneshot")
    for (const { slot } of draft.roster.workers) if (concerns(operation, slot)) draft.send(slot, { kind: "excuse" });
  if (kind === "reload") rollBack(draft, operation);
  end(draft, operation, "operation_failed", reason);
}

/** The previous specification is desired again, also for workers that were replaced already. */
function rollBack(draft: PoolDraft, { previous }: RunningOperation): void {
  const reason = "its reload failed";
  adopt(draft, previous);
  if (previous.replicas === 0) draft.abandonedAt = draft.at;
  abandonOutdated(draft, reason);
  for (const { slot, incarnation, revision } of draft.roster.workers)
    if (revision > previous.revision) renew(draft, slot, incarnation, reason);
}

function end(
  draft: PoolDraft,
  operation: RunningOperation,
  kind: "operation_finished" | "operation_failed",
  reason?: string,
): void {
  draft.running = draft.running.filter(({ id }) => id !== operation.id);
  draft.emitOperation(kind, operation, reason);
}
