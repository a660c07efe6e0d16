/** A clock that stands still until a test moves it. */
import { after, type Instant, instant } from "../../src/base/time.ts";
import type { Clock } from "../../src/runtime/clock.ts";

interface FakeTimer {
  readonly at: Instant;
  readonly wake: () => void;
}

/** Fires timers in the order of their instants; starts at 1000. */
export class FakeClock implements Clock {
  #now = instant(1000);
  readonly #timers = new Set<FakeTimer>();
  readonly #turns: (() => void)[] = [];
  /** Time by which each call of `now` advances the clock. */
  drift = 0;

  now(): Instant {
    this.#now = after(this.#now, this.drift);
    return this.#now;
  }

  wakeAt(at: Instant, wake: () => void): Disposable {
    const timer = { at, wake };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => this.#timers.delete(timer) };
  }

  nextTurn(go: () => void): void {
    this.#turns.push(go);
  }

  /** Runs the callbacks of the next turn. Returns false if there are none. */
  turn(): boolean {
    const turns = this.#turns.splice(0);
    for (const go of turns) go();
    return turns.length > 0;
  }

  /** Instants of the timers that are armed, earliest first. */
  get armed(): number[] {
    return [...this.#timers].map(({ at }) => at).sort((a, b) => a - b);
  }

  /** Advances the clock by `ms` and fires the timers that become due. */
  pass(ms: number): void {
    const until = after(this.#now, ms);
    for (let next = this.#earliest(); next !== undefined && next.at <= until; next = this.#earliest()) {
      this.#now = instant(Math.max(this.#now, next.at));
      this.#timers.delete(next);
      next.wake();
    }
    this.#now = until;
  }

  /** Fires the earliest timer before it is due. */
  fireEarly(): void {
    const next = this.#earliest();
    if (next === undefined) throw new RangeError("no timer is armed");
    this.#timers.delete(next);
    next.wake();
  }

  #earliest(): FakeTimer | undefined {
    return [...this.#timers].sort((a, b) => a.at - b.at)[0];
  }
}
