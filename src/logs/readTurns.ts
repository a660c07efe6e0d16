/**
 * Shares the main thread among all busy log sources. Each source in turn reads one chunk into a common buffer. After
 * TURN_MS the event loop handles other work (exits, timers, probes) before reading continues.
 */
import { monotonicMs } from "../base/monotonic.ts";
import { SLACK_BYTES } from "./jsonLine.ts";

const CHUNK_BYTES = 64 * 1024;
const WAKE_BYTES = 4 * 1024;
const TURN_MS = 1;

/** A log source that reads in turns. */
export interface TurnTaker {
  /** Reads at most one chunk; requests another turn itself if there is more. */
  takeTurn(): void;
}

export class ReadTurns {
  /** The buffer that a turn reads into; its content is valid only during the turn. */
  readonly chunk: Buffer;
  /** The buffer for small reads of quiet sources; part of the memory of `chunk`. */
  readonly wakeChunk: Buffer;
  #queue: TurnTaker[] = [];
  #head = 0;
  #isScheduled = false;

  constructor() {
    const memory = Buffer.allocUnsafeSlow(CHUNK_BYTES + SLACK_BYTES);
    this.chunk = memory.subarray(0, CHUNK_BYTES);
    this.wakeChunk = memory.subarray(0, WAKE_BYTES);
  }

  /** Queues one turn for `taker`. */
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
