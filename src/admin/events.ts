/** The last lifecycle events in a ring of bounded length, and those who follow them. */
import { describeEvent } from "../core/describe.ts";
import type { LifecycleEvent } from "../core/event.ts";
import type { EventRecord } from "./api.ts";

/** Events that are kept; older ones are forgotten. */
const KEPT_EVENTS = 500;

export class EventLog {
  readonly #ring: EventRecord[] = [];
  readonly #followers = new Set<(record: EventRecord) => void>();
  readonly #wallClock: () => Date;
  #seq = 0;

  constructor(wallClock: () => Date) {
    this.#wallClock = wallClock;
  }

  /** Number of the newest event; 0 before the first. */
  get lastSeq(): number {
    return this.#seq;
  }

  /** Adds an event and returns it as followers see it. */
  add(event: LifecycleEvent): EventRecord {
    const { level, text, code } = describeEvent(event);
    this.#seq++;
    const record: EventRecord = {
      ...event,
      seq: this.#seq,
      time: this.#wallClock().toISOString(),
      level,
      message: text,
      ...(code === undefined ? {} : { code }),
    };
    if (this.#ring.length < KEPT_EVENTS) this.#ring.push(record);
    else this.#ring[(this.#seq - 1) % KEPT_EVENTS] = record;
    for (const follower of this.#followers) follower(record);
    return record;
  }

  /** The kept events after number `seq`, oldest first. */
  since(seq: number): EventRecord[] {
    const oldest = this.#seq - this.#ring.length + 1;
    const records: EventRecord[] = [];
    for (let next = Math.max(seq + 1, oldest); next <= this.#seq; next++) {
      const record = this.#ring[(next - 1) % KEPT_EVENTS];
      if (record !== undefined) records.push(record);
    }
    return records;
  }

  /** Calls `follower` for each event from now on, until disposed. */
  follow(follower: (record: EventRecord) => void): Disposable {
    this.#followers.add(follower);
    return { [Symbol.dispose]: () => this.#followers.delete(follower) };
  }
}
