/**
 * Flags of V8 that are set while the program runs. On the command line of the executable they would change what V8 takes
 * its code caches to be made for, and all of Node.js's own modules would be compiled from source at each start: 20 to
 * 35 ms more, also for a command that only asks. Here they come when everything is loaded.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** A full collection; the last resort keeps nothing that can be made again. */
type Collector = (options: { type: "major"; execution: "sync"; flavor: "regular" | "last-resort" }) => void;

/**
 * For a process that lives long: Maglev's compile zones stay in malloc's arenas for good (8 to 11 MB of private dirty
 * memory after some load, at no measurable gain in throughput).
 */
export function tuneForLongLife(): void {
  setFlagsFromString("--no-maglev");
}

/**
 * Nothing that runs only to start is worth optimizing: with 500 workers it takes 55 ms of a second core, and a megabyte of
 * private dirty memory stays with the compiler's allocator.
 */
export function postponeOptimization(): void {
  setFlagsFromString("--no-opt");
}

export function allowOptimization(): void {
  setFlagsFromString("--opt");
}

/**
 * Collects all garbage, and with `flushesCode` also the bytecode of every function that is not running; V8 compiles those
 * again from source when they are called.
 */
export function collect(flushesCode: boolean): void {
  if (flushesCode) setFlagsFromString("--stress-flush-code");
  collector()({ type: "major", execution: "sync", flavor: "last-resort" });
  if (flushesCode) setFlagsFromString("--no-stress-flush-code");
}

/** Collects all garbage in a third of the time, and leaves gaps in the heap. */
export function collectQuickly(): void {
  collector()({ type: "major", execution: "sync", flavor: "regular" });
}

/** Only a context that is made after the flag has the collector; the context is garbage itself afterwards. */
function collector(): Collector {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as Collector;
}
