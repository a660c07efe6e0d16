/** The threads of the runtime, all of them started before anything else, so that no limit met later can abort the process. */
import { stat } from "node:fs";
import { countStartableThreads } from "./linux.ts";
import { processLimitError } from "./processLimit.ts";

/** Threads of libuv's pool; environment.ts removes the variable that would change the number. */
const POOL_THREADS = 4;

/**
 * Starts the threads of libuv's pool, which otherwise start at its first use and abort the process if one of them cannot.
 * The threads of V8 exist since the start of the runtime. @throws ControllerError PROCESS_LIMIT
 */
export function startThreads(): void {
  requireThreads(POOL_THREADS, "Cannot start the controller");
  // The first request starts the threads before it returns.
  stat("/", () => {});
}

/** Makes sure that so many more threads can be started now; `what` begins the error. @throws ControllerError PROCESS_LIMIT */
export function requireThreads(count: number, what: string): void {
  const startable = countStartableThreads(count);
  if (startable < count) throw processLimitError(`${what}: ${startable} of ${count} more threads could be started`);
}
