/**
 * Keeps what each unready worker waits for, for status, and emits it as an event when the wait takes long. The text is the
 * result of the last probe attempt. Where the processes of the worker listen is looked up when the text is reported.
 */
import type { Instant } from "../../base/time.ts";
import type { Incarnation, Slot } from "../../core/identity.ts";
import { describeListening, isReportDue, type Wait } from "../../core/waiting.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Asked, SocketOwners } from "../../runtime/socket/socketOwners.ts";

const LOOK_MS = 1000;

/**
 * How a worker becomes ready. `probed`: it answers probes; reports add where its processes listen. `observed`: it is seen
 * serving. `survival`: it has run long enough; nothing is reported before that.
 */
type Way = "probed" | "observed" | "survival";

interface Waiting {
  readonly worker: readonly [pool: number, slot: Slot, incarnation: Incarnation];
  readonly asked: Asked;
  wait: Wait;
  /** What the worker waits for and what the last attempt returned. */
  text: string;
  readonly way: Way;
  /** Where its processes listen; undefined while that is not known. */
  listening: readonly string[] | undefined;
}

export class ReadinessReports implements Disposable {
  readonly #clock: Clock;
  readonly #owners: SocketOwners;
  readonly #report: (pool: number, slot: Slot, incarnation: Incarnation, reason: string) => void;
  readonly #waiting = new Map<string, Waiting>();
  #timer: Disposable | undefined;

  constructor(options: {
    clock: Clock;
    owners: SocketOwners;
    report: (pool: number, slot: Slot, incarnation: Incarnation, reason: string) => void;
  }) {
    this.#clock = options.clock;
    this.#owners = options.owners;
    this.#report = options.report;
  }

  /** A worker starts to wait to become ready, for the first time or again. */
  begin(worker: Waiting["worker"], asked: Asked, text: string, way: Way): void {
    const wait: Wait = { since: this.#clock.now(), reported: undefined };
    this.#waiting.set(keyOf(...worker), { worker, asked, wait, text, way, listening: undefined });
    if (way !== "survival") this.#arm();
  }

  /** What the last attempt returned. */
  note(worker: Waiting["worker"], text: string): void {
    const waiting = this.#waiting.get(keyOf(...worker));
    if (waiting === undefined || waiting.text === text) return;
    waiting.text = text;
    // What was seen before says nothing about this attempt.
    waiting.listening = undefined;
  }

  /** The worker is ready, draining, stopping or has exited. */
  end(worker: Waiting["worker"]): void {
    this.#waiting.delete(keyOf(...worker));
  }

  isWaiting(worker: Waiting["worker"]): boolean {
    return this.#waiting.has(keyOf(...worker));
  }

  /** What a worker waits for now; undefined if it waits for nothing. */
  textOf(pool: number, slot: Slot, incarnation: Incarnation): string | undefined {
    const waiting = this.#waiting.get(keyOf(pool, slot, incarnation));
    return waiting && textOf(waiting);
  }

  /** Appends to `reason` where the processes of the worker listen. */
  async explain(asked: Asked, reason: string): Promise<string> {
    const listening = await this.#owners.listeningOf(asked);
    return textOf({ text: reason, listening });
  }

  #arm(): void {
    if (this.#timer !== undefined || this.#waiting.size === 0) return;
    this.#timer = this.#clock.wakeAt((this.#clock.now() + LOOK_MS) as Instant, () => {
      this.#timer = undefined;
      for (const waiting of this.#waiting.values()) void this.#look(waiting);
      this.#arm();
    });
  }

  async #look(waiting: Waiting): Promise<void> {
    const { worker, asked, wait, way } = waiting;
    if (way === "survival" || !isReportDue(wait, textOf(waiting), this.#clock.now())) return;
    if (way === "probed") waiting.listening = await this.#owners.listeningOf(asked);
    const reason = textOf(waiting);
    const at = this.#clock.now();
    // It may have become ready, or have been reported, meanwhile.
    if (this.#waiting.get(keyOf(...worker)) !== waiting || !isReportDue(waiting.wait, reason, at)) return;
    waiting.wait = { ...waiting.wait, reported: { text: reason, at } };
    this.#report(...worker, reason);
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#waiting.clear();
  }
}

function textOf({ text, listening }: Pick<Waiting, "text" | "listening">): string {
  return listening === undefined ? text : text + describeListening(text, listening);
}

function keyOf(...worker: Waiting["worker"]): string {
  return worker.join("/");
}
