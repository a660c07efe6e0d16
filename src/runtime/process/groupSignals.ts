/**
 * Finds out whether a signal that the controller received went to its whole group or service, as systemd's
 * KillMode=control-group does. The guardian and Envoy run with that signal blocked, so that it stays pending in them,
 * where /proc shows it.
 */
import { constants } from "node:os";
import { readProcText } from "../os/procFile.ts";

/** A pending signal that is seen in two looks this far apart is an old one: it says nothing about the next. */
const LOOK_MS = 10_000;

/** Signals that are pending for a process, one bit each: bit 0 is signal 1 (proc(5), SigPnd and ShdPnd). */
export function readPendingSignals(pid: number): bigint {
  const text = readProcText(`/proc/${pid}/status`) ?? "";
  let pending = 0n;
  for (const [, mask] of text.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gmu)) pending |= BigInt(`0x${mask}`);
  return pending;
}

export class GroupSignals implements Disposable {
  readonly #witnesses: () => readonly number[];
  readonly #read: (pid: number) => bigint;
  /** What was pending at the last look, and what was so at the look before it too, by pid. */
  #last: ReadonlyMap<number, { readonly pending: bigint; readonly old: bigint }> = new Map();
  readonly #timer: NodeJS.Timeout;

  /** `witnesses` are processes of the controller that block signals. */
  constructor(witnesses: () => readonly number[], read = readPendingSignals) {
    this.#witnesses = witnesses;
    this.#read = read;
    this.#timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  /**
   * Whether every witness has received one of these signals lately. A signal to some of them says nothing about workers:
   * it may have been sent to all processes of a certain name.
   */
  has(...signals: readonly string[]): boolean {
    let wanted = 0n;
    for (const signal of signals) wanted |= 1n << BigInt((constants.signals[signal as NodeJS.Signals] ?? 64) - 1);
    const isHit = (pid: number) => (this.#read(pid) & ~(this.#last.get(pid)?.old ?? 0n) & wanted) !== 0n;
    const witnesses = this.#witnesses();
    return witnesses.length > 0 && witnesses.every(isHit);
  }

  /** Remembers what is pending, so that it is not taken for news later. */
  look(): void {
    const next = new Map<number, { pending: bigint; old: bigint }>();
    for (const pid of this.#witnesses()) {
      const pending = this.#read(pid);
      next.set(pid, { pending, old: pending & (this.#last.get(pid)?.pending ?? 0n) });
    }
    this.#last = next;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
