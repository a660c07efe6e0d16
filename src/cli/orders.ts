/** What `stop` and `start` share: finding the worker that is meant, and waiting between two looks. */
import type { Status, WorkerStatus } from "../admin/api.ts";
import { ControllerError } from "../base/errors.ts";
import { didYouMean } from "../config/nearest.ts";

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 250;

/** The worker with this id. @throws ControllerError WORKER_UNKNOWN with the nearest id */
export function findWorker(status: Status, id: string, verb: "stop" | "start"): WorkerStatus {
  const workers = status.pools.flatMap((pool) => pool.workers);
  const found = workers.find((worker) => worker.id === id);
  if (found !== undefined) return found;
  const guess = didYouMean(
    id,
    workers.map((worker) => worker.id),
  );
  throw new ControllerError("WORKER_UNKNOWN", `Cannot ${verb} worker "${id}": there is no such worker${guess}`);
}

/** Waits before look number `attempt`: short at first, for workers that end at once, then a quarter of a second. */
export async function pause(attempt: number): Promise<void> {
  const ms = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 1.5 ** attempt);
  await new Promise((resolve) => setTimeout(resolve, ms));
}
