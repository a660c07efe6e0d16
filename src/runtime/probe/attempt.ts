/**
 * One probe attempt in progress. It ends exactly once: with an answer, on timeout, or silently when disposed. It then
 * releases its resources and ignores later events.
 */
import { formatDuration } from "../../base/units.ts";
import type { AttemptOutcome } from "../../core/policy/probe.ts";

/** Where a worker is reached: a TCP port of 127.0.0.1, or a Unix socket. */
export type ProbeAddress = { readonly port: number } | { readonly path: string };

/** `127.0.0.1:80`, or the path of a Unix socket. */
export function formatAddress(address: ProbeAddress): string {
  return "port" in address ? `127.0.0.1:${address.port}` : address.path;
}

export type Settle = (outcome: AttemptOutcome) => void;

/** A way to probe the server at an address. */
export interface NetworkMethod<Settings> {
  /** What an attempt requests, such as `GET http://127.0.0.1:80/healthz`; `where` is a host and port, or a path. */
  describe(where: string, settings: Settings): string;
  /** `settle` is called at most once, and never after disposal. */
  attempt(address: ProbeAddress, settings: Settings, timeoutMs: number, settle: Settle): Disposable;
}

/** The address as node:net takes it. */
export function connectOptions(address: ProbeAddress): { host: string; port: number } | { path: string } {
  return "port" in address ? { host: "127.0.0.1", port: address.port } : { path: address.path };
}

/** Kernel errors that mean the controller, not the worker, lacks a resource. */
const OWN_FAULTS: ReadonlySet<string> = new Set(["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EADDRNOTAVAIL"]);

/** Explanations of error codes, for reasons. */
const EXPLANATIONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EPIPE: "connection reset",
  ENOENT: "the socket does not exist",
  EAGAIN: "the accept queue is full",
};

/** Errors that mean no process listens at the address. */
const REFUSALS: ReadonlySet<string> = new Set(["ECONNREFUSED", "ENOENT"]);

/** The outcome for a connection error. Reports only the error code: the message may contain paths. */
export function outcomeOfError(error: Error): AttemptOutcome {
  const code = "code" in error && typeof error.code === "string" ? error.code : error.name;
  const explanation = EXPLANATIONS[code];
  const reason = explanation === undefined ? code : `${explanation} (${code})`;
  if (OWN_FAULTS.has(code)) return { kind: "error", reason };
  return REFUSALS.has(code) ? { kind: "failure", reason, how: "refused" } : { kind: "failure", reason };
}

export class Attempt implements Disposable {
  readonly #settle: Settle;
  readonly #timer: NodeJS.Timeout;
  #release: () => void = () => {};
  #isOver = false;

  /** `settle` is called once, unless the attempt is disposed first. */
  constructor(timeoutMs: number, settle: Settle) {
    this.#settle = settle;
    const reason = `no answer within ${formatDuration(timeoutMs)}`;
    this.#timer = setTimeout(() => this.end({ kind: "failure", reason, how: "timeout" }), timeoutMs);
  }

  /** Sets the cleanup to run when the attempt ends; runs it immediately if the attempt is already over. */
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
