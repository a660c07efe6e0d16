/**
 * Keeps what each unready worker waits for, for status, and emits it as an event when the wait takes long. The text is the
 * result of the last probe attempt. Where the processes of the worker listen is looked up when the text is reported.
 */
import { refKey, type WorkerRef } from "../../core/identity.ts";
import { describeListening, isReportDue, type Wait } from "../../core/waiting.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { ProbeTarget } from "../../runtime/probe/prober.ts";
import type { SocketOwners } from "../../runtime/socket/socketOwners.ts";
import { Rounds } from "../watch/rounds.ts";

const LOOK_MS = 1000;

/**
 * How a worker becomes ready. `probed`: it answers probes; reports add where its processes listen. `observed`: it is seen
 * serving. `survival`: it has run long enough; nothing is reported before that.
 */
type Way = "probed" | "observed" | "survival";

interface Waiting {
  readonly worker: ProbeTarget;
  wait: Wait;
  /** What the worker waits for and what the last attempt returned. */
  text: string;
  readonly way: Way;
  /** Where its processes listen; undefined while that is not known. */
  listening: readonly string[] | undefined;
}

export interface ReadinessReportsOptions {
  readonly clock: Clock;
  readonly owners: Pick<SocketOwners, "listeningOf">;
  readonly report: (worker: WorkerRef, reason: string) => void;
}

export class ReadinessReports implements Disposable {
  readonly #options: ReadinessReportsOptions;
  readonly #waiting = new Map<string, Waiting>();
  readonly #rounds: Rounds;

  constructor(options: ReadinessReportsOptions) {
    this.#options = options;
    this.#rounds = new Rounds({
      clock: options.clock,
      everyMs: LOOK_MS,
      isNeeded: () => this.#waiting.size > 0,
      look: async () => {
        await Promise.all(Array.from(this.#waiting.values(), (waiting) => this.#look(waiting)));
      },
    });
  }

  /** A worker waits to become ready: for the first time, again, or still and for another reason. */
  begin(worker: ProbeTarget, text: string, way: Way): void {
    if (this.#waiting.has(refKey(worker))) {
      this.note(worker, text);
      return;
    }
    const wait: Wait = { since: this.#options.clock.now(), reported: undefined };
    this.#waiting.set(refKey(worker), { worker, wait, text, way, listening: undefined });
    if (way !== "survival") this.#rounds.start();
  }

  /** What the last attempt returned. */
  note(worker: WorkerRef, text: string): void {
    const waiting = this.#waiting.get(refKey(worker));
    if (waiting === undefined || waiting.text === text) return;
    waiting.text = text;
    // What was seen before says nothing about this attempt.
    waiting.listening = undefined;
  }

  /** The worker is ready, draining, stopping or has exited. */
  end(worker: WorkerRef): void {
    this.#waiting.delete(refKey(worker));
  }

  /** What a worker waits for now; undefined if it waits for nothing. */
  textOf(worker: WorkerRef): string | undefined {
    const waiting = this.#waiting.get(refKey(worker));
    return waiting && textOf(waiting);
  }

  /** Appends to `reason` where the processes of a worker listen that is not ready. */
  async explain(worker: WorkerRef, reason: string): Promise<string> {
    const waiting = this.#waiting.get(refKey(worker));
    if (waiting === undefined) return reason;
    return textOf({ text: reason, listening: await this.#options.owners.listeningOf(waiting.worker.owner) });
  }

  async #look(waiting: Waiting): Promise<void> {
    const { worker, wait, way } = waiting;
    const { clock, owners, report } = this.#options;
    if (way === "survival" || !isReportDue(wait, textOf(waiting), clock.now())) return;
    if (way === "probed") waiting.listening = await owners.listeningOf(worker.owner);
    const reason = textOf(waiting);
    const at = clock.now();
    // It may have become ready, or have been reported, meanwhile.
    if (this.#waiting.get(refKey(worker)) !== waiting || !isReportDue(waiting.wait, reason, at)) return;
    waiting.wait = { ...waiting.wait, reported: { text: reason, at } };
    report(worker, reason);
  }

  [Symbol.dispose](): void {
    this.#rounds[Symbol.dispose]();
  }
}

function textOf({ text, listening }: Pick<Waiting, "text" | "listening">): string {
  return listening === undefined ? text : text + describeListening(text, listening);
}
