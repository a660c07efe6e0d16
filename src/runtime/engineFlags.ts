/**
 * V8 flags that are set at run time, after everything is loaded. On the executable's command line they would invalidate
 * V8's code caches: Node.js would compile all its own modules from source at each start, which takes 20 to 35 ms
 * longer, even for a command that only queries.
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** A full collection. The flavor `last-resort` keeps nothing that V8 can recreate. */
type Collector = (options: { type: "major"; execution: "sync"; flavor: "regular" | "last-resort" }) => void;

/**
 * For a long-lived process. Maglev's compile zones stay in malloc's arenas permanently: 8 to 11 MB of private dirty
 * memory after some load, with no measurable gain in throughput.
 */
export function tuneForLongLife(): void {
  setFlagsFromString("--no-maglev");
}

/**
 * Code that runs only at startup is not worth optimizing. With 500 workers, optimization takes 55 ms of a second core
 * and leaves a megabyte of private dirty memory in the compiler's allocator.
 */
export function postponeOptimization(): void {
  setFlagsFromString("--no-opt");
}

export function allowOptimization(): void {
  setFlagsFromString("--opt");
}

/**
 * Collects all garbage. With `flushesCode`, also discards the bytecode of every function that is not running; V8
 * compiles those functions again from source when they are called.
 */
export function collect(flushesCode: boolean): void {
  if (flushesCode) setFlagsFromString("--stress-flush-code");
  collector()({ type: "major", execution: "sync", flavor: "last-resort" });
  if (flushesCode) setFlagsFromString("--no-stress-flush-code");
}

/** Collects all garbage in a third of the time that `collect` takes, but leaves gaps in the heap. */
export function collectQuickly(): void {
  collector()({ type: "major", execution: "sync", flavor: "regular" });
}

/** Only a context created after the flag is set has the collector. The context itself becomes garbage afterwards. */
function collector(): Collector {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as Collector;
}
