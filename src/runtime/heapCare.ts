/**
 * Keeps the heap small. V8 collects a heap of this size only once 8 MB were allocated beyond the last collection, which
 * takes an hour under usual load and never comes after a restart storm or a flood of logs. So the heap is collected when
 * the controller is idle, and quickly now and then while it is not.
 */
import { getHeapStatistics } from "node:v8";
import { monotonicMs } from "../base/monotonic.ts";
import { collect, collectQuickly } from "./engineFlags.ts";
import { returnFreeMemory } from "./os/linux.ts";

const LOOK_EVERY_MS = 5000;
/** After something has happened: so long nothing else may happen before the process counts as idle. */
const IDLE_MS = 2500;
/** Garbage below this is not worth a pause of 20 ms. */
const WORTH_BYTES = 4 << 20;

/** While the controller is busy: garbage that is worth a pause of 10 ms, and the shortest time between two of them. */
const BUSY_WORTH_BYTES = 1 << 20;
const BUSY_EVERY_MS = 60_000;

export class HeapCare {
  readonly #activity: () => number;
  #timer: NodeJS.Timeout;
  #seenActivity = 0;
  /** 0 until the garbage of the start is collected. */
  #keptBytes = 0;
  #usedBytes = 0;
  #collectedAtMs = monotonicMs();

  /** `activity` counts what happens (events, bytes of logs): where it stands still the controller is idle. */
  constructor(activity: () => number) {
    this.#activity = activity;
    this.#timer = this.#lookIn(LOOK_EVERY_MS);
  }

  /** Ends it. */
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
    const { total_heap_size: heapBytes, used_heap_size: usedBytes } = getHeapStatistics();
    if (!isIdle) {
      const isDue = monotonicMs() - this.#collectedAtMs >= BUSY_EVERY_MS;
      if (isDue && usedBytes >= this.#usedBytes + BUSY_WORTH_BYTES) this.#collected(collectQuickly);
      return;
    }
    if (heapBytes < this.#keptBytes + WORTH_BYTES) return;
    // Most of what has run by now ran only to start: a megabyte of bytecode. What is needed again is compiled again.
    this.#collected(() => collect(this.#keptBytes === 0));
    this.#keptBytes = getHeapStatistics().total_heap_size;
  }

  #collected(how: () => void): void {
    how();
    returnFreeMemory();
    this.#usedBytes = getHeapStatistics().used_heap_size;
    this.#collectedAtMs = monotonicMs();
  }
}
