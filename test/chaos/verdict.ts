/**
 * Judges failed requests. A failure is excused only by a fault of the process that executed the request or, if no worker
 * executed it, by a fault in its pool at that time.
 */
import type { FailedRequest } from "./client.ts";
import type { ProcessKey } from "./ledger.ts";
import type { PoolName } from "./pools.ts";

/**
 * Why a request may fail: a fault of the worker that executed it, of the proxy or controller, or of a worker of its pool
 * while the request waited for one.
 */
export type Excuse = "killed" | "front" | "waiting";

/** A period in which requests of a pool may fail. */
export interface Window {
  readonly pool: PoolName;
  readonly why: string;
  readonly from: number;
  /** Unset while the window is open. */
  to?: number;
  /** Whether the proxy or the controller has the fault, so that requests executed by workers may fail too. */
  readonly isFront: boolean;
  /** Number of excused requests. */
  excused: number;
}

/** How long closed windows are kept; longer than any request takes. */
const KEPT_MS = 120_000;

export class Windows {
  #all: Window[] = [];
  /** The window, other than of a proxy or controller, that excused the most requests. */
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

  /** Why the request may fail; undefined if it may not. `by` executed it; `isDoomed` if the run disabled that process. */
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
