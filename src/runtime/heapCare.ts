/**
 * Gives memory back when nothing is going on. V8 collects when it allocates, so after a restart storm or a flood of logs
 * its garbage would stay until the next one; a controller is idle nearly always, and then a collection disturbs nobody.
 */
import { getHeapStatistics } from "node:v8";
import { collect } from "./engineFlags.ts";
import { returnFreeMemory } from "./os/linux.ts";

const LOOK_EVERY_MS = 5000;
/** After something has happened: so long nothing else may happen before the process counts as idle. */
const IDLE_MS = 2500;
/** Garbage below this is not worth a pause of 20 ms. */
const WORTH_BYTES = 4 << 20;

export class HeapCare {
  readonly #activity: () => number;
  #timer: NodeJS.Timeout;
  #seenActivity = 0;
  /** 0 until the garbage of the start is collected. */
  #keptBytes = 0;

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
    if (!isIdle) return;
    const { total_heap_size: heapBytes } = getHeapStatistics();
    if (heapBytes < this.#keptBytes + WORTH_BYTES) return;
    // Most of what has run by now ran only to start: a megabyte of bytecode. What is needed again is compiled again.
    collect(this.#keptBytes === 0);
    returnFreeMemory();
    this.#keptBytes = getHeapStatistics().total_heap_size;
  }
}
