/**
 * Keeps the heap small. V8 collects a heap of this size only after 8 MB of new allocations, which takes an hour under
 * usual load and never happens after a restart storm or a flood of logs. So the heap is collected when the controller
 * is idle, and occasionally with a quick collection while it is busy.
 */
import { getHeapStatistics } from "node:v8";
import { monotonicMs } from "../base/monotonic.ts";
import { collect, collectQuickly } from "./engineFlags.ts";
import { returnFreeMemory } from "./os/linux.ts";

const LOOK_EVERY_MS = 5000;
/** After activity: the quiet period before the process counts as idle. */
const IDLE_MS = 2500;
/** Garbage below this is not worth a pause of 20 ms. */
const WORTH_BYTES = 4 << 20;

/** While the controller is busy: garbage worth a pause of 10 ms, and the minimum interval between collections. */
const BUSY_WORTH_BYTES = 1 << 20;
const BUSY_EVERY_MS = 60_000;

/** V8's heap, or a fake in tests. */
interface Heap {
  read(): { readonly total_heap_size: number; readonly used_heap_size: number };
  collect(flushesCode: boolean): void;
  collectQuickly(): void;
}

const V8_HEAP: Heap = { read: getHeapStatistics, collect, collectQuickly };

export class HeapCare {
  readonly #activity: () => number;
  readonly #heap: Heap;
  #timer: NodeJS.Timeout;
  #seenActivity = 0;
  /** 0 until the garbage of startup is collected. */
  #keptBytes = 0;
  #usedBytes = 0;
  #collectedAtMs = monotonicMs();

  /** `activity` counts events and bytes of logs. The controller is idle while the count does not change. */
  constructor(activity: () => number, heap: Heap = V8_HEAP) {
    this.#activity = activity;
    this.#heap = heap;
    this.#timer = this.#lookIn(LOOK_EVERY_MS);
  }

  /** Stops the timer. */
  close(): void {
    clearTimeout(this.#timer);
  }

  #lookIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => this.#look(), ms).unref();
  }

  #look(): void {
    const activity = this.#activity();
    const isIdle = activity === this.#seenActivity;
    this.#seenActivity = activity;
    this.#timer = this.#lookIn(isIdle ? LOOK_EVERY_MS : IDLE_MS);
    const { total_heap_size: heapBytes, used_heap_size: usedBytes } = this.#heap.read();
    if (!isIdle) {
      const isDue = monotonicMs() - this.#collectedAtMs >= BUSY_EVERY_MS;
      if (isDue && usedBytes >= this.#usedBytes + BUSY_WORTH_BYTES) this.#collected(() => this.#heap.collectQuickly());
      return;
    }
    if (heapBytes < this.#keptBytes + WORTH_BYTES) return;
    // Most code run so far ran only at startup: a megabyte of bytecode. V8 recompiles functions that are called again.
    this.#collected(() => this.#heap.collect(this.#keptBytes === 0));
    this.#keptBytes = this.#heap.read().total_heap_size;
  }

  #collected(how: () => void): void {
    how();
    returnFreeMemory();
    this.#usedBytes = this.#heap.read().used_heap_size;
    this.#collectedAtMs = monotonicMs();
  }
}
