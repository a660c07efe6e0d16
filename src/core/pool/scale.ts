/** Keeps the number of workers at the desired one: starts missing workers, stops surplus ones. */
import { after, type Instant } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import type { WorkerState } from "../worker/state.ts";
import type { PoolDraft } from "./draft.ts";
import { isExclusive } from "./order.ts";
import { abandonLast } from "./replacements.ts";
import { isInUse, isServing } from "./roster.ts";
import { slotCount } from "./state.ts";

/** Starts missing workers or stops surplus ones. Whether a slot became free. */
export function scale(draft: PoolDraft): boolean {
  const surplus = countSurplus(draft);
  if (surplus > 0) return stopSurplus(draft);
  startMissing(draft, -surplus);
  return false;
}

/** How many workers there are above the desired number; successors are no surplus. */
function countSurplus({ roster, spec, replacements }: PoolDraft): number {
  return roster.census.inUse - spec.replicas - spec.standby - replacements.length;
}

function startMissing(draft: PoolDraft, missing: number): void {
  const { roster, spec, at, wasHealthy, running } = draft;
  if (!draft.gate.isOpen) return;
  // Workers that stop for a successor are still alive. A pool that was larger has slots enough, but no room for more.
  let room = slotCount(spec) - roster.census.occupied;
  for (let left = missing; left > 0 && room > 0; left--, room--) {
    const slot = roster.freeSlot();
    if (slot === undefined) return;
    const startAt = Math.max(at, draft.nextStartAt) as Instant;
    const delayMs = startAt - at;
    const reason = delayMs > 0 ? `waits ${formatDuration(delayMs)} for its turn` : "wanted by replicas";
    // A worker that an operation adds to a serving pool must prove itself like a successor; the first boot does not wait.
    const isAdded = wasHealthy !== undefined && running.some(isExclusive);
    const settleMs = isAdded ? spec.rollout.minReadyMs : 0;
    draft.send(slot, { kind: "start", delayMs, settleMs, reason });
    draft.nextStartAt = after(startAt, spec.startupWaitMs);
  }
}

/** Stops workers that do not serve first, then those in the highest slots. */
function stopSurplus(draft: PoolDraft): boolean {
  const { roster, spec } = draft;
  let hasFreed = false;
  while (countSurplus(draft) > 0) {
    const worker = findSurplus(draft);
    if (worker === undefined) {
      if (!abandonLast(draft)) return hasFreed;
    } else if (worker.phase === "down") {
      const reason = `the pool has ${spec.replicas} replicas and does not use this slot`;
      draft.send(worker.slot, { kind: "release", reason });
      hasFreed = true;
    } else {
      const { replicas, standby } = spec;
      const reason = `${replicas} replicas${standby > 0 ? ` and ${standby} standby workers` : ""} desired`;
      draft.send(worker.slot, { kind: "stop", order: { cause: "scale", reason, next: "down" } });
      // A worker in backoff has no process to stop.
      if (roster.at(worker.slot).phase === "down") hasFreed = true;
    }
  }
  return hasFreed;
}

function findSurplus(draft: PoolDraft): WorkerState | undefined {
  const candidates = draft.roster.workers.filter(
    (worker) => isInUse(worker) && !draft.isReplaced(worker.slot) && !draft.isSuccessor(worker.slot),
  );
  return candidates.sort((a, b) => rank(a) - rank(b) || b.slot - a.slot)[0];
}

/** Which workers are stopped first: 0 before 1 before 2. */
function rank(worker: WorkerState): number {
  if (worker.phase === "down" || worker.phase === "backoff") return 0;
  return isServing(worker) ? 2 : 1;
}
