/**
 * Decides how a changed configuration is applied: which operations begin, what waits, and what is rolled back.
 *
 * A pool whose operation fails returns to the last configuration with which it ran. A new pool that fails to start is
 * removed. A new pool that needs the name, the ports or the sockets of a pool under removal starts when the removal is
 * complete.
 */
import { emptied, type PoolSpec } from "../spec.ts";
import type {
  LeavingPool,
  PoolChange,
  PoolVersion,
  Preparation,
  Purpose,
  ReloadEvent,
  ReloadedPool,
  ReloadOperation,
  ReloadRequest,
  ReloadState,
  ReloadStep,
  RunningPools,
} from "./state.ts";

type RunningPool = Extract<ReloadedPool, { phase: "running" }>;
type Added = Extract<PoolChange, { kind: "added" }>;
type Changed = Extract<PoolChange, { kind: "changed" }>;

const SHUTTING_DOWN = "the controller is shutting down";

/** The state at the start of the controller. */
export function newReloads(pools: readonly PoolVersion[]): ReloadState {
  return {
    pools: pools.map((wanted) => ({ phase: "running", wanted, proved: wanted, latest: undefined })),
    leaving: [],
    operations: [],
    revisions: Object.fromEntries(pools.map(({ spec }) => [spec.name, 1])),
    begun: 0,
  };
}

/** Whether every pool of the configuration has been started; only then another request may come. */
export function isSettled({ pools }: ReloadState): boolean {
  return pools.every(({ phase }) => phase === "running");
}

/** What must be prepared before `request` is applied. If that fails, nothing has changed. */
export function preparationsOf(state: ReloadState, request: ReloadRequest): Preparation[] {
  const leaving = [...namesOf(state.leaving), ...removedBy(request)];
  return request.changes.flatMap((change): Preparation[] => {
    if (change.kind === "removed") return [];
    const { version } = change;
    const revision = nextRevision(state, version.spec.name);
    if (change.kind === "changed") return change.isLaunched ? [{ version, revision, isNew: false }] : [];
    return change.blockers.some((name) => leaving.includes(name)) ? [] : [{ version, revision, isNew: true }];
  });
}

/** Decides what `event` means. */
export function stepReload(
  state: ReloadState,
  event: ReloadEvent,
  running: RunningPools,
): { readonly state: ReloadState; readonly steps: readonly ReloadStep[] } {
  const draft = new Draft(state, running);
  switch (event.kind) {
    case "requested":
      apply(draft, event.request, event.prepared);
      break;
    case "prepared":
      start(draft, event.pool, event.failure);
      break;
    case "ended":
      followUp(draft, event.operation, event.isSuccess);
      break;
    case "reconfigured":
      if (!event.isSuccess) keepProxySettings(draft, event.step.version, event.step.previous);
      break;
  }
  return { state: draft.state, steps: draft.steps };
}

/** The next state and the steps to it, as one event creates them. */
class Draft {
  state: ReloadState;
  readonly running: RunningPools;
  readonly steps: ReloadStep[] = [];

  constructor(state: ReloadState, running: RunningPools) {
    this.state = state;
    this.running = running;
  }

  find(name: string): ReloadedPool | undefined {
    return this.state.pools.find(({ wanted }) => wanted.spec.name === name);
  }

  /** The pool, unless it waits for its start. */
  runningPool(name: string): RunningPool | undefined {
    const pool = this.find(name);
    return pool?.phase === "running" ? pool : undefined;
  }

  /** Replaces the pool of the same name, or adds it. */
  put(pool: ReloadedPool): void {
    const { name } = pool.wanted.spec;
    const index = this.state.pools.findIndex(({ wanted }) => wanted.spec.name === name);
    const pools = index < 0 ? [...this.state.pools, pool] : this.state.pools.with(index, pool);
    this.state = { ...this.state, pools };
  }

  forget(name: string): void {
    this.state = { ...this.state, pools: this.state.pools.filter(({ wanted }) => wanted.spec.name !== name) };
  }

  newId(): string {
    this.state = { ...this.state, begun: this.state.begun + 1 };
    return `reload-${this.state.begun}`;
  }

  /** Records that the pool has this revision. */
  use(name: string, revision: number): void {
    this.state = { ...this.state, revisions: { ...this.state.revisions, [name]: revision } };
  }

  /** Begins an operation. Returns its id. */
  order(
    purpose: Purpose | undefined,
    spec: PoolSpec,
    reason: string,
    { id = this.newId(), keeps = [] }: { id?: string | undefined; keeps?: ("revision" | "replicas")[] } = {},
  ): string {
    if (purpose !== undefined) this.state = { ...this.state, operations: [...this.state.operations, { id, purpose }] };
    this.steps.push({ kind: "order", id, pool: spec.name, spec, keeps, reason });
    return id;
  }
}

function apply(draft: Draft, request: ReloadRequest, prepared: readonly Preparation[]): void {
  const { names, changes, policy } = request;
  for (const { version, revision } of prepared) draft.use(version.spec.name, revision);
  if (policy !== undefined) draft.steps.push({ kind: "setPolicy", policy });
  for (const name of removedBy(request)) remove(draft, name, `pool "${name}" was removed from the configuration`);
  for (const change of changes) {
    if (change.kind === "added") add(draft, change, prepared);
    if (change.kind === "changed") applyChange(draft, change, prepared);
  }
  const place = ({ wanted }: ReloadedPool) => names.indexOf(wanted.spec.name);
  draft.state = { ...draft.state, pools: draft.state.pools.toSorted((a, b) => place(a) - place(b)) };
}

function add(draft: Draft, { version, blockers }: Added, prepared: readonly Preparation[]): void {
  const revision = revisionIn(prepared, version);
  if (revision !== undefined) fill(draft, version, revision);
  else wait(draft, version, blockers);
}

function applyChange(draft: Draft, change: Changed, prepared: readonly Preparation[]): void {
  const { version, isScaled, isProxyChanged } = change;
  const { name } = version.spec;
  const pool = draft.runningPool(name);
  const present = draft.running.specOf(name);
  // It failed to start meanwhile and is being removed.
  if (pool === undefined || present === undefined) {
    wait(draft, version, [name]);
    return;
  }
  draft.steps.push({ kind: "putInForce", version });
  const revision = revisionIn(prepared, version);
  const replicas = isScaled ? version.spec.replicas : present.replicas;
  const spec = { ...version.spec, replicas, revision: revision ?? present.revision };
  // Operations queued before this one may change values that this one must keep.
  const keeps = [...(revision === undefined ? ["revision" as const] : []), ...(isScaled ? [] : ["replicas" as const])];
  const purpose = { kind: "apply", pool: name, version } as const;
  const latest = draft.order(purpose, spec, `reload: ${change.reason} changed`, { keeps });
  draft.put({ ...pool, wanted: version, latest });
  orderProxy(draft, pool.wanted, version);
  if (isProxyChanged) draft.steps.push({ kind: "reconfigure", version, previous: pool.wanted.proxyId });
}

/** Applies a changed specification of the pool's proxy. */
function orderProxy(draft: Draft, before: PoolVersion, { proxySpec }: PoolVersion): void {
  if (proxySpec === undefined || JSON.stringify(before.proxySpec) === JSON.stringify(proxySpec)) return;
  draft.order(undefined, proxySpec, "reload: the settings of the proxy's process changed");
}

/** Starts a pool that has been prepared. `announced`: its operations, if it had to wait. */
function fill(draft: Draft, version: PoolVersion, revision: number, announced: readonly ReloadOperation[] = []): void {
  const { spec, proxySpec } = version;
  const reason = `reload: pool "${spec.name}" is new`;
  const idOf = (name: string) => ({ id: announced.find(({ pool }) => pool === name)?.id });
  if (proxySpec !== undefined)
    draft.order({ kind: "startProxy", pool: spec.name }, proxySpec, reason, idOf(proxySpec.name));
  const purpose = { kind: "apply", pool: spec.name, version } as const;
  const latest = draft.order(purpose, { ...spec, revision }, reason, idOf(spec.name));
  draft.put({ phase: "running", wanted: version, proved: undefined, latest });
}

/** Announces the operations of a pool that cannot start yet. */
function wait(draft: Draft, version: PoolVersion, blockers: readonly string[]): void {
  const { spec, proxySpec } = version;
  const pools = proxySpec === undefined ? [spec.name] : [proxySpec.name, spec.name];
  const operations = pools.map((pool) => ({ id: draft.newId(), pool }));
  const present = blockers.filter((name) => namesOf(draft.state.leaving).includes(name));
  const cause = present.length === 0 ? "" : ` and waits for the removal of ${present.map(quote).join(", ")}`;
  emit(draft, operations, "operation_queued", `reload: pool ${quote(spec.name)} is new${cause}`);
  draft.put({ phase: "waiting", wanted: version, blockers, operations });
  startUnblocked(draft);
}

/** Prepares the pools for which nothing is left to wait. */
function startUnblocked(draft: Draft): void {
  const leaving = namesOf(draft.state.leaving);
  for (const pool of draft.state.pools) {
    if (pool.phase !== "waiting" || pool.blockers.some((name) => leaving.includes(name))) continue;
    const { wanted, operations } = pool;
    if (draft.running.isLeaving) {
      refuse(draft, wanted.spec.name, operations, SHUTTING_DOWN);
      continue;
    }
    const revision = nextRevision(draft.state, wanted.spec.name);
    draft.put({ phase: "preparing", wanted, revision, operations });
    draft.steps.push({ kind: "prepare", version: wanted, revision, isNew: true });
  }
}

function start(draft: Draft, name: string, failure: string | undefined): void {
  const pool = draft.find(name);
  if (pool?.phase !== "preparing") return;
  const reason = draft.running.isLeaving ? SHUTTING_DOWN : failure;
  if (failure === undefined) draft.use(name, pool.revision);
  if (reason !== undefined) refuse(draft, name, pool.operations, reason);
  else fill(draft, pool.wanted, pool.revision, pool.operations);
}

/** The next reload tries to start it again. */
function refuse(draft: Draft, name: string, operations: readonly ReloadOperation[], reason: string): void {
  draft.forget(name);
  emit(draft, operations, "operation_failed", reason);
}

function emit(
  draft: Draft,
  operations: readonly ReloadOperation[],
  kind: "operation_queued" | "operation_failed",
  reason: string,
): void {
  for (const { id, pool } of operations) {
    const event = { kind, pool, operation: id, what: "reload", done: 0, total: 0, reason } as const;
    draft.steps.push({ kind: "emit", event });
  }
}

/** Drains and stops the workers, then the proxy. */
function remove(draft: Draft, name: string, reason: string): void {
  const wanted = draft.runningPool(name)?.wanted;
  const spec = draft.running.specOf(name);
  if (wanted === undefined || spec === undefined) return;
  draft.forget(name);
  const replicas = Math.max(spec.replicas, wanted.spec.replicas);
  const leaving = { name, proxy: wanted.proxySpec?.name, replicas, version: wanted };
  draft.state = { ...draft.state, leaving: [...draft.state.leaving, leaving] };
  draft.order({ kind: "removeWorkers", pool: name }, emptied(spec), `reload: ${reason}`);
}

function followUp(draft: Draft, id: string, isSuccess: boolean): void {
  const purpose = draft.state.operations.find((each) => each.id === id)?.purpose;
  if (purpose === undefined) return;
  draft.state = { ...draft.state, operations: draft.state.operations.filter((each) => each.id !== id) };
  switch (purpose.kind) {
    case "apply":
      if (isSuccess) prove(draft, purpose.pool, purpose.version, id);
      else rollBack(draft, purpose.pool, id);
      return;
    case "startProxy":
      if (!isSuccess) giveUp(draft, purpose.pool);
      return;
    case "removeWorkers":
      removeProxy(draft, purpose.pool);
      return;
    case "removeProxy":
      depart(draft, purpose.pool);
      return;
  }
}

function prove(draft: Draft, name: string, version: PoolVersion, id: string): void {
  const pool = draft.runningPool(name);
  // After the latest operation, the pool runs as it is wanted: Envoy may have refused the proxy settings of `version`.
  if (pool !== undefined) draft.put({ ...pool, proved: pool.latest === id ? pool.wanted : version });
}

/** An operation that failed is followed by a rollback, unless a later operation decides. */
function rollBack(draft: Draft, name: string, id: string): void {
  const pool = draft.runningPool(name);
  if (pool === undefined || pool.latest !== id || draft.running.isLeaving) return;
  const { wanted, proved } = pool;
  if (proved === undefined) {
    giveUp(draft, name);
    return;
  }
  // The failed operation has restored the specification of the workers already.
  draft.put({ ...pool, wanted: proved });
  draft.steps.push({ kind: "putInForce", version: proved });
  orderProxy(draft, wanted, proved);
  if (proved.proxySpec !== undefined)
    draft.steps.push({ kind: "reconfigure", version: proved, previous: wanted.proxyId });
}

/** Removes a pool that failed to start. The pool and its proxy may both have failed. */
function giveUp(draft: Draft, name: string): void {
  const pool = draft.runningPool(name);
  if (pool === undefined || pool.proved !== undefined || draft.running.isLeaving) return;
  remove(draft, name, `pool "${name}" failed to start`);
}

function removeProxy(draft: Draft, name: string): void {
  draft.steps.push({ kind: "releaseSockets", pool: name });
  const proxy = draft.state.leaving.find((pool) => pool.name === name)?.proxy;
  const spec = proxy === undefined ? undefined : draft.running.specOf(proxy);
  if (spec === undefined || draft.running.isLeaving) depart(draft, name);
  else draft.order({ kind: "removeProxy", pool: name }, emptied(spec), `reload: pool "${name}" has been removed`);
}

function depart(draft: Draft, name: string): void {
  draft.state = { ...draft.state, leaving: draft.state.leaving.filter((pool) => pool.name !== name) };
  startUnblocked(draft);
}

/** Envoy refused the settings of `version`: those of `previous` stay on record, so that the next reload tries again. */
function keepProxySettings(draft: Draft, { id, proxyId, spec }: PoolVersion, previous: number): void {
  const pool = draft.runningPool(spec.name);
  if (pool === undefined) return;
  const keep = (version: PoolVersion) =>
    version.id === id && version.proxyId === proxyId ? { ...version, proxyId: previous } : version;
  const wanted = keep(pool.wanted);
  draft.put({ ...pool, wanted, proved: pool.proved && keep(pool.proved) });
  if (wanted !== pool.wanted) draft.steps.push({ kind: "putInForce", version: wanted });
}

function nextRevision({ revisions }: ReloadState, name: string): number {
  return (Object.hasOwn(revisions, name) ? (revisions[name] ?? 0) : 0) + 1;
}

function revisionIn(prepared: readonly Preparation[], { id }: PoolVersion): number | undefined {
  return prepared.find(({ version }) => version.id === id)?.revision;
}

function removedBy({ changes }: ReloadRequest): string[] {
  return changes.flatMap((change) => (change.kind === "removed" ? [change.name] : []));
}

function namesOf(leaving: readonly LeavingPool[]): string[] {
  return leaving.map(({ name }) => name);
}

function quote(name: string): string {
  return JSON.stringify(name);
}
