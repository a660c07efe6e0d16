/**
 * Judges failed requests: a failure is excused only by something that the run did to the process that had the request, or, if
 * no worker executed it, by something that happened to its pool at that time.
 */
import type { FailedRequest } from "./client.ts";
import type { ProcessKey } from "./ledger.ts";
import type { PoolName } from "./pools.ts";

/**
 * Why a request may fail: its worker was hit while it worked on it; the proxy or the controller was; or it waited for a worker
 * when one of its pool was.
 */
export type Excuse = "killed" | "front" | "waiting";

/** A time in which requests of a pool may fail. */
export interface Window {
  readonly pool: PoolName;
  readonly why: string;
  readonly from: number;
  /** Unset while it is open. */
  to?: number;
  /** Whether what is in front of the workers was hit: requests that workers executed may fail too. */
  readonly isFront: boolean;
  /** Requests that it excused. */
  excused: number;
}

/** Closed windows are kept so long. A request that failed was sent at most so long ago. */
const KEPT_MS = 120_000;

export class Windows {
  #all: Window[] = [];
  /** The most requests that one window excused, and why, by kind. */
  worst: Pick<Window, "why" | "excused"> = { why: "none", excused: 0 };

  open(pool: PoolName, why: string, isFront = false, from = performance.now()): Window {
    const window: Window = { pool, why, from, isFront, excused: 0 };
    this.#all.push(window);
    return window;
  }

  get isAnyOpen(): boolean {
    const now = performance.now();
    return this.#all.some(({ to }) => to === undefined || to > now);
  }

  forgetOld(): void {
    const before = performance.now() - KEPT_MS;
    this.#all = this.#all.filter(({ to }) => to === undefined || to > before);
  }

  /** Why the request may have failed; undefined if it must not. `by` executed it, `isDoomed` if the run hit that process. */
  excuse({ pool, sentAt, failedAt }: FailedRequest, by: ProcessKey | undefined, isDoomed: boolean): Excuse | undefined {
    if (isDoomed) return "killed";
    const open = this.#all.filter(
      ({ from, to = failedAt, ...each }) =>
        each.pool === pool && (each.isFront || by === undefined) && from <= failedAt && to >= sentAt,
    );
    const window = open.find(({ isFront }) => isFront) ?? open[0];
    if (window === undefined) return undefined;
    window.excused++;
    if (window.excused > this.worst.excused && !window.isFront) this.worst = window;
    return window.isFront ? "front" : "waiting";
  }
}
