/** Starts the runtime's threads before anything else, so that a limit reached later cannot abort the process. */
import { stat } from "node:fs";
import { countStartableThreads } from "./linux.ts";
import { processLimitError } from "./processLimit.ts";

/** Threads of libuv's pool; environment.ts removes the variable that would change the number. */
const POOL_THREADS = 4;

/**
 * Starts the threads of libuv's pool. Otherwise they start at its first use, and abort the process if one cannot start.
 * V8's threads exist since the start of the runtime. @throws ControllerError PROCESS_LIMIT
 */
export function startThreads(): void {
  requireThreads(POOL_THREADS, "Cannot start the controller");
  // The first request starts the threads before it returns.
  stat("/", () => {});
}

/** Checks that `count` more threads can start now; `what` begins the error. @throws ControllerError PROCESS_LIMIT */
export function requireThreads(count: number, what: string): void {
  const startable = countStartableThreads(count);
  if (startable < count) throw processLimitError(`${what}: ${startable} of ${count} more threads could be started`);
}
