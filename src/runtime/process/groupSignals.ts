/**
 * Detects whether a signal that the controller received was sent to its whole process group or service, as systemd's
 * KillMode=control-group does. The guardian and Envoy run with that signal blocked, so that it stays pending in them
 * and is visible in /proc.
 */
import { constants } from "node:os";
import { readProcText } from "../os/procFile.ts";

/** Poll interval. A signal that is pending in two consecutive polls is old and says nothing about a new one. */
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
  /** By pid: the signals pending at the last poll, and those also pending at the poll before it. */
  #last: ReadonlyMap<number, { readonly pending: bigint; readonly old: bigint }> = new Map();
  readonly #timer: NodeJS.Timeout;

  /** `witnesses` returns the controller's processes that block signals. */
  constructor(witnesses: () => readonly number[], read = readPendingSignals) {
    this.#witnesses = witnesses;
    this.#read = read;
    this.#timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  /**
   * Whether every witness recently received one of these signals. A signal to only some of them says nothing about
   * workers: it may have been sent to all processes of a certain name.
   */
  has(...signals: readonly string[]): boolean {
    let wanted = 0n;
    for (const signal of signals) wanted |= 1n << BigInt((constants.signals[signal as NodeJS.Signals] ?? 64) - 1);
    const isHit = (pid: number) => (this.#read(pid) & ~(this.#last.get(pid)?.old ?? 0n) & wanted) !== 0n;
    const witnesses = this.#witnesses();
    return witnesses.length > 0 && witnesses.every(isHit);
  }

  /** Records pending signals, so that they are not mistaken for new ones later. */
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
