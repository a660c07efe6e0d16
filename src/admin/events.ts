/** The last lifecycle events and their followers. */
import { describeEvent } from "../core/describe.ts";
import type { LifecycleEvent } from "../core/event.ts";
import type { EventRecord } from "./api.ts";

/** Maximum number of events kept; older ones are dropped. */
const KEPT_EVENTS = 500;

/** A raw event. Its message is formatted on demand, because hundreds of events may arrive at once. */
interface KeptEvent {
  readonly event: LifecycleEvent;
  readonly seq: number;
  readonly time: Date;
}

export class EventLog {
  readonly #kept: KeptEvent[] = [];
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

  /** Adds an event and returns the record that followers receive. */
  add(event: LifecycleEvent): EventRecord {
    return toRecord(this.#keep(event));
  }

  /** Adds an event without returning its record; the message is formatted only on demand. */
  addQuietly(event: LifecycleEvent): void {
    this.#keep(event);
  }

  /** The kept events after number `seq`, oldest first. */
  since(seq: number): EventRecord[] {
    return this.#kept.filter((kept) => kept.seq > seq).map(toRecord);
  }

  /** Calls `follower` for each new event until disposed. */
  follow(follower: (record: EventRecord) => void): Disposable {
    this.#followers.add(follower);
    return { [Symbol.dispose]: () => this.#followers.delete(follower) };
  }

  #keep(event: LifecycleEvent): KeptEvent {
    this.#seq++;
    const kept = { event, seq: this.#seq, time: this.#wallClock() };
    if (this.#kept.push(kept) > KEPT_EVENTS) this.#kept.shift();
    if (this.#followers.size > 0) {
      const record = toRecord(kept);
      for (const follower of this.#followers) follower(record);
    }
    return kept;
  }
}

function toRecord({ event, seq, time }: KeptEvent): EventRecord {
  const { level, text, code } = describeEvent(event);
  return { ...event, seq, time: time.toISOString(), level, message: text, ...(code === undefined ? {} : { code }) };
}
