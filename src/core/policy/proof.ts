/**
 * Which ready workers have yet to prove that they stay up. A program may answer its probe and crash seconds later: a
 * rollout waits for the proof before it stops the next predecessor, and health does not count a worker in a crash loop.
 */
import { after, type Instant } from "../../base/time.ts";
import type { PoolSpec } from "../spec.ts";
import type { WorkerState } from "../worker/state.ts";
import { decideProvingMs } from "./restart.ts";

/**
 * When one of the workers started since `startedAt` will have been ready for `minReadyMs`. undefined: one of them has been,
 * or none is ready. Only probed pools need it: without probes, a worker is ready only after that time.
 */
export function proofDueAt(
  workers: readonly WorkerState[],
  startedAt: Instant,
  spec: PoolSpec,
  at: Instant,
): Instant | undefined {
  const { minReadyMs } = spec.rollout;
  if (spec.readiness.kind !== "probed" || minReadyMs === 0) return undefined;
  let dueAt: Instant | undefined;
  for (const worker of workers) {
    if (worker.phase !== "ready" || worker.spawnedAt < startedAt || worker.revision !== spec.revision) continue;
    const provedAt = after(worker.since, minReadyMs);
    if (provedAt <= at) return undefined;
    if (dueAt === undefined || provedAt < dueAt) dueAt = provedAt;
  }
  return dueAt;
}

/** Until when a ready worker that crashed repeatedly does not count for the pool's health; undefined if it counts. */
export function doubtedUntil(worker: WorkerState, spec: PoolSpec, at: Instant): Instant | undefined {
  if (worker.phase !== "ready" || worker.crashes.streak < 2) return undefined;
  const until = after(worker.spawnedAt, decideProvingMs(worker.crashes, spec.restart, spec.rollout.minReadyMs));
  return until > at ? until : undefined;
}
