/**
 * Publishes the endpoints to Envoy: writes the file and rewrites it until Envoy confirms that it applied it.
 *
 * Invariants: a reader sees a complete version or the previous one, because each file is renamed within its directory.
 * Versions are written one after another, and the newest desired state wins. Envoy sees a slot removed before its next
 * incarnation; otherwise it would keep health, counters and connections of the dead one.
 */
import { after, type Clock, type Instant } from "../../base/time.ts";
import { ENDPOINTS_TYPE, endpoints } from "../resources/endpoints.ts";
import { resourceFile } from "../resources/files.ts";
import { formatAddress, type ProxyUser, type Upstream } from "../resources/settings.ts";
import { writeWhole } from "./privateFiles.ts";

/** First poll after a write; an update takes Envoy 1 to 2 ms. The interval doubles after each poll. */
const FIRST_POLL_MS = 2;
const LAST_POLL_MS = 1000;

/** An update that is not applied after this time is written again; the interval doubles each time. */
const FIRST_REWRITE_MS = 500;
const LAST_REWRITE_MS = 30_000;

/** What Envoy reports about its endpoints. */
export interface AppliedState {
  readonly version: string;
  /** Number of updates that Envoy has not accepted since it started. */
  readonly refusals: number;
}

export interface PublisherListener {
  /** Envoy balances over these upstreams now. */
  applied(upstreams: readonly Upstream[]): void;
  /** An update is not applied yet after `waitedMs`; reported once per update. */
  updateLate(version: string, waitedMs: number): void;
  /** Envoy rejected an update and keeps the previous one; reported once per update. */
  updateRefused(version: string): void;
  /** The file could not be written; reported once per update. */
  writeFailed(error: Error): void;
}

export interface PublisherOptions {
  readonly file: string;
  /** The user that Envoy runs as, if not the controller's. */
  readonly user?: ProxyUser | undefined;
  readonly clock: Clock;
  readonly listener: PublisherListener;
}

/** One version that is being published. */
interface Update {
  readonly version: string;
  readonly upstreams: readonly Upstream[];
  readonly since: Instant;
  pollMs: number;
  rewriteMs: number;
  rewriteAt: Instant;
  isApplied: boolean;
  readonly reported: Set<"late" | "refused" | "unwritten">;
}

export class Publisher {
  readonly #file: string;
  readonly #user: ProxyUser | undefined;
  readonly #clock: Clock;
  readonly #listener: PublisherListener;
  #wanted: readonly Upstream[] = [];
  /** The last version that was written; undefined before the first. */
  #update: Update | undefined;
  #versions = 0;
  /** Incarnations by slot that Envoy may have read. */
  readonly #known = new Map<number, number>();
  /** Queries the running Envoy; undefined while none runs. */
  #query: (() => Promise<AppliedState>) | undefined;
  /** Refusals of that Envoy seen so far. */
  #refusals = 0;
  #isQuerying = false;
  #timer: Disposable | undefined;

  constructor({ file, user, clock, listener }: PublisherOptions) {
    this.#file = file;
    this.#user = user;
    this.#clock = clock;
    this.#listener = listener;
  }

  /**
   * Sets the desired endpoints. Writes the file before it returns, unless prepare() was never called or Envoy must see
   * a slot removed first.
   */
  publish(upstreams: readonly Upstream[]): void {
    this.#wanted = upstreams.toSorted((a, b) => a.slot - b.slot);
    if (this.#update !== undefined) this.#writeNext();
  }

  /** Writes the desired endpoints for an Envoy that is about to start. @throws Error of the system */
  prepare(): void {
    this.#known.clear();
    this.#write(this.#begin(this.#wanted));
  }

  /** Whether Envoy has confirmed that it applied the newest version. */
  get isApplied(): boolean {
    return this.#update?.isApplied === true;
  }

  /**
   * Writes the same endpoints as a new version and polls until Envoy has applied it. An Envoy that has replaced its
   * cluster still reports the endpoint version of the old one.
   */
  renew(): void {
    if (this.#update === undefined) return;
    const update = this.#begin(this.#update.upstreams);
    this.#tryWrite(update);
    this.#pollLater(update.pollMs);
  }

  /** An Envoy that has read the file is running; `query` queries it. */
  attach(query: () => Promise<AppliedState>): void {
    this.#query = query;
    this.#refusals = 0;
    // Only Envoy knows whether the file was written before or after it began to watch.
    const update = this.#update ?? this.#begin(this.#wanted);
    this.#restartWaits(update);
    this.#pollLater(0);
  }

  /** No Envoy runs: stops polling and rewriting. */
  detach(): void {
    this.#query = undefined;
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
    if (this.#update !== undefined) this.#update.isApplied = false;
  }

  /** Writes the next version towards the desired endpoints, if it differs from the last one written. */
  #writeNext(): void {
    const next = this.#wanted.filter(({ slot, incarnation }) => (this.#known.get(slot) ?? incarnation) === incarnation);
    if (this.#update !== undefined && isSame(this.#update.upstreams, next)) return;
    const update = this.#begin(next);
    this.#tryWrite(update);
    this.#pollLater(update.pollMs);
  }

  #begin(upstreams: readonly Upstream[]): Update {
    const now = this.#clock.now();
    for (const { slot, incarnation } of upstreams) this.#known.set(slot, incarnation);
    this.#versions += 1;
    this.#update = {
      version: String(this.#versions),
      upstreams,
      since: now,
      pollMs: FIRST_POLL_MS,
      rewriteMs: FIRST_REWRITE_MS,
      rewriteAt: after(now, FIRST_REWRITE_MS),
      isApplied: false,
      reported: new Set(),
    };
    return this.#update;
  }

  #write({ version, upstreams }: Update): void {
    writeWhole(this.#file, resourceFile(version, ENDPOINTS_TYPE, [endpoints(upstreams)]), this.#user);
  }

  #tryWrite(update: Update): void {
    try {
      this.#write(update);
    } catch (error) {
      // It is written again like an update that Envoy did not notice.
      if (!update.reported.has("unwritten"))
        this.#listener.writeFailed(error instanceof Error ? error : new Error(String(error)));
      update.reported.add("unwritten");
    }
  }

  #restartWaits(update: Update): void {
    update.isApplied = false;
    update.pollMs = FIRST_POLL_MS;
    update.rewriteMs = FIRST_REWRITE_MS;
    update.rewriteAt = after(this.#clock.now(), FIRST_REWRITE_MS);
  }

  #pollLater(ms: number): void {
    if (this.#query === undefined) return;
    this.#timer?.[Symbol.dispose]();
    this.#timer = this.#clock.wakeAt(after(this.#clock.now(), ms), () => {
      this.#timer = undefined;
      void this.#poll();
    });
  }

  /** Sends one query at a time; a response is compared with the version written by then. */
  async #poll(): Promise<void> {
    const query = this.#query;
    if (query === undefined || this.#isQuerying) return;
    this.#isQuerying = true;
    const state = await query().catch(() => undefined);
    this.#isQuerying = false;
    if (this.#query === undefined || this.#update === undefined) return;
    // Another Envoy runs by now; its poll was skipped because of this one.
    if (this.#query !== query) this.#pollLater(0);
    else this.#judge(this.#update, state);
  }

  #judge(update: Update, state: AppliedState | undefined): void {
    if (update.isApplied) return;
    if (state?.version === update.version) {
      update.isApplied = true;
      this.#refusals = state.refusals;
      this.#known.clear();
      for (const { slot, incarnation } of update.upstreams) this.#known.set(slot, incarnation);
      this.#listener.applied(update.upstreams);
      this.#writeNext();
      return;
    }
    if (state !== undefined && state.refusals > this.#refusals) {
      this.#refusals = state.refusals;
      if (!update.reported.has("refused")) this.#listener.updateRefused(update.version);
      update.reported.add("refused");
    }
    const now = this.#clock.now();
    if (now >= update.rewriteAt) {
      if (!update.reported.has("late") && !update.reported.has("refused"))
        this.#listener.updateLate(update.version, now - update.since);
      update.reported.add("late");
      update.rewriteMs = Math.min(update.rewriteMs * 2, LAST_REWRITE_MS);
      update.rewriteAt = after(now, update.rewriteMs);
      update.pollMs = FIRST_POLL_MS;
      this.#tryWrite(update);
    } else update.pollMs = Math.min(update.pollMs * 2, LAST_POLL_MS);
    this.#pollLater(Math.min(update.pollMs, Math.max(0, update.rewriteAt - now)));
  }
}

function isSame(a: readonly Upstream[], b: readonly Upstream[]): boolean {
  return (
    a.length === b.length && a.every((upstream, index) => upstream === b[index] || isSameUpstream(upstream, b[index]))
  );
}

function isSameUpstream(a: Upstream, b: Upstream | undefined): boolean {
  return (
    a.slot === b?.slot &&
    a.incarnation === b.incarnation &&
    a.state === b.state &&
    formatAddress(a.address) === formatAddress(b.address)
  );
}
