/**
 * One attempt of a probe while it is under way. It ends once: with an answer, with its timeout, or silently when it is
 * disposed; whatever it holds open is released then, and what comes later is not listened to.
 */
import { formatDuration } from "../../base/units.ts";
import type { AttemptOutcome } from "../../core/policy/probe.ts";

/** Where a worker is reached: a TCP port of 127.0.0.1, or a Unix socket. */
export type ProbeAddress = { readonly port: number } | { readonly path: string };

/** The address as node:net takes it. */
export function connectOptions(address: ProbeAddress): { host: string; port: number } | { path: string } {
  return "port" in address ? { host: "127.0.0.1", port: address.port } : { path: address.path };
}

/** What the kernel says when we, not the worker, lack something. */
const OWN_FAULTS: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EADDRNOTAVAIL"]);

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EPIPE: "connection reset",
  ENOENT: "the socket does not exist",
  EAGAIN: "the accept queue is full",
};

/** Nobody listens there. */
const REFUSALS: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOENT"]);

/** What an error of a connection means. Only its code is told: its message may hold paths. */
export function outcomeOfError(error: Error): AttemptOutcome {
  const code = "code" in error && typeof error.code === "string" ? error.code : error.name;
  const words = WORDS[code];
  const reason = words === undefined ? code : `${words} (${code})`;
  if (OWN_FAULTS.has(code)) return { kind: "error", reason };
  return REFUSALS.has(code) ? { kind: "failure", reason, how: "refused" } : { kind: "failure", reason };
}

export class Attempt implements Disposable {
  readonly #settle: (outcome: AttemptOutcome) => void;
  readonly #timer: NodeJS.Timeout;
  #release: () => void = () => {};
  #isOver = false;

  /** `settle` is called once, unless the attempt is disposed before. */
  constructor(timeoutMs: number, settle: (outcome: AttemptOutcome) => void) {
    this.#settle = settle;
    const reason = `no answer within ${formatDuration(timeoutMs)}`;
    this.#timer = setTimeout(() => this.end({ kind: "failure", reason, how: "timeout" }), timeoutMs);
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** What to do at the end, whichever it is; at once where it is over already. */
  releaseBy(release: () => void): void {
    if (this.#isOver) release();
    else this.#release = release;
  }

  succeed(): void {
    this.end({ kind: "success" });
  }

  fail(reason: string): void {
    this.end({ kind: "failure", reason });
  }

  end(outcome: AttemptOutcome): void {
    if (this.#isOver) return;
    this[Symbol.dispose]();
    this.#settle(outcome);
  }

  [Symbol.dispose](): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#release();
  }
}
