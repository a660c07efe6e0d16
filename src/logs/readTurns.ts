/**
 * Shares the main thread among all log sources that have much to read: each in turn reads one chunk into one common
 * buffer, and after TURN_MS the event loop gets to everything else (exits, timers, probes) before it goes on.
 */
import { monotonicMs } from "../base/monotonic.ts";
import { SLACK_BYTES } from "./jsonLine.ts";

const CHUNK_BYTES = 64 * 1024;
const WAKE_BYTES = 4 * 1024;
const TURN_MS = 1;

/** Something that can read one chunk. */
export interface TurnTaker {
  /** Reads at most one chunk; asks for another turn itself if there is more. */
  takeTurn(): void;
}

export class ReadTurns {
  /** Where a turn reads to. Its content is gone after the turn. */
  readonly chunk: Buffer;
  /** Where a few bytes are read to when nothing much is going on; part of the memory of `chunk`. */
  readonly wakeChunk: Buffer;
  #queue: TurnTaker[] = [];
  #head = 0;
  #isScheduled = false;

  constructor() {
    const memory = Buffer.allocUnsafeSlow(CHUNK_BYTES + SLACK_BYTES);
    this.chunk = memory.subarray(0, CHUNK_BYTES);
    this.wakeChunk = memory.subarray(0, WAKE_BYTES);
  }

  /** Gives `taker` one turn, after all that wait already. */
  add(taker: TurnTaker): void {
    this.#queue.push(taker);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#run);
  }

  readonly #run = (): void => {
    this.#isScheduled = false;
    const untilMs = monotonicMs() + TURN_MS;
    do {
      const taker = this.#queue[this.#head];
      if (taker === undefined) break;
      this.#head++;
      if (this.#head * 2 > this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head);
        this.#head = 0;
      }
      taker.takeTurn();
    } while (monotonicMs() < untilMs);
    if (this.#queue.length > this.#head) this.#schedule();
  };
}
