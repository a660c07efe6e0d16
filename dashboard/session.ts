/**
 * Keeps a snapshot of the controller up to date: polls the status every two seconds and soon after an event, and follows
 * the events. While the controller does not respond, it polls with backoff. A snapshot is immutable.
 */
import type { EventRecord, Status } from "../src/admin/api.ts";
import { type Activity, activitiesOf, type Sample, SERIES_LENGTH, sampleOf } from "./activity.ts";
import { backoffMs } from "./backoff.ts";
import { follow, get, hasToken, keepToken, Refusal, ROUTES } from "./client.ts";

const POLL_MS = 2000;
/** Delay of a poll after an event, so that a burst of events costs one poll. */
const NEWS_MS = 400;
/** Minimum time between two samples from which activity is computed. */
const LEAST_MEASURED_S = 1.5;
/** Maximum number of events kept. */
const MAX_EVENTS = 300;

/** The state of the connection to the controller. */
export type Link =
  | { readonly kind: "connecting" }
  | { readonly kind: "up" }
  /** The controller requires a token, or rejected the current one. */
  | { readonly kind: "refused"; readonly message: string; readonly hadToken: boolean }
  | { readonly kind: "gone"; readonly since: number; readonly retryMs: number; readonly message: string };

export interface Snapshot {
  readonly link: Link;
  /** The last known status, also while the controller is unreachable. */
  readonly status: Status | undefined;
  readonly activities: ReadonlyMap<string, Activity>;
  /** Samples of each pool by name, oldest first. */
  readonly series: ReadonlyMap<string, readonly Sample[]>;
  /** Oldest first. */
  readonly events: readonly EventRecord[];
  /** Why events are missing; empty if none are. */
  readonly eventsProblem: string;
}

/** The connection of this page to the controller. */
export class Session {
  #snapshot: Snapshot = {
    link: { kind: "connecting" },
    status: undefined,
    activities: new Map(),
    series: new Map(),
    events: [],
    eventsProblem: "",
  };
  readonly #onChange: (snapshot: Snapshot, news: readonly EventRecord[]) => void;
  readonly #stop = new AbortController();
  #wake: () => void = () => {};
  #isNewsPending = false;
  #failures = 0;
  #goneSince = 0;
  #stream: AbortController | undefined;
  #lastSeq = 0;
  /** The previous sample. */
  #measured: Status | undefined;

  /** Calls `onChange` with each snapshot and the events that are new in it. */
  constructor(onChange: (snapshot: Snapshot, news: readonly EventRecord[]) => void) {
    this.#onChange = onChange;
    // Browsers slow down the timers of a hidden tab, so poll at once when the tab becomes visible.
    document.addEventListener("visibilitychange", () => this.#wake(), { signal: this.#stop.signal });
  }

  /** Runs until close() is called. */
  async run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const waitMs = await this.#look();
      await this.#sleep(waitMs);
    }
  }

  /** Polls at once with this token. */
  useToken(token: string): void {
    keepToken(token);
    this.#wake();
  }

  /** Polls at once. */
  refresh(): void {
    this.#wake();
  }

  close(): void {
    this.#stop.abort();
    this.#stream?.abort();
    this.#wake();
  }

  /** Polls the status; returns the delay before the next poll. */
  async #look(): Promise<number> {
    if (document.hidden && this.#snapshot.link.kind === "up") return Number.POSITIVE_INFINITY;
    try {
      this.#take(await get<Status>(`${ROUTES.status}?detail=1`));
      return POLL_MS;
    } catch (error) {
      return this.#fail(error);
    }
  }

  #take(status: Status): void {
    const { status: before } = this.#snapshot;
    this.#failures = 0;
    if (before !== undefined && (before.pid !== status.pid || before.uptime_s > status.uptime_s)) {
      // Another controller has started, which restarts the numbering of events.
      this.#lastSeq = 0;
      this.#stream?.abort();
      this.#stream = undefined;
      this.#measured = undefined;
      this.#change({ events: [], series: new Map(), activities: new Map() });
    }
    this.#change({ link: { kind: "up" }, status });
    this.#measure(status);
    if (this.#stream === undefined) void this.#followEvents();
  }

  #measure(status: Status): void {
    const { activities: known, series } = this.#snapshot;
    const elapsed = status.uptime_s - (this.#measured?.uptime_s ?? 0);
    // The kernel counts CPU time in hundredths of a second, which is too coarse for shorter intervals.
    if (known.size > 0 && elapsed >= 0 && elapsed < LEAST_MEASURED_S) return;
    const activities = activitiesOf(this.#measured, status);
    this.#measured = status;
    this.#change({
      activities,
      series: new Map(
        status.pools.map((pool) => {
          const samples = [...(series.get(pool.name) ?? []), sampleOf(pool, activities)];
          return [pool.name, samples.slice(-SERIES_LENGTH)];
        }),
      ),
    });
  }

  #fail(error: unknown): number {
    const message = error instanceof Error ? error.message : String(error);
    this.#stream?.abort();
    this.#stream = undefined;
    if (error instanceof Refusal && (error.status === 401 || error.status === 403)) {
      this.#change({ link: { kind: "refused", message, hadToken: hasToken() } });
      return Number.POSITIVE_INFINITY;
    }
    if (this.#failures === 0) this.#goneSince = Date.now();
    const retryMs = backoffMs(++this.#failures);
    this.#change({ link: { kind: "gone", since: this.#goneSince, retryMs, message } });
    return retryMs;
  }

  async #followEvents(): Promise<void> {
    const stream = new AbortController();
    this.#stream = stream;
    try {
      await follow(`${ROUTES.events}?since=${this.#lastSeq}`, stream.signal, (parts) => {
        if (stream.signal.aborted) return;
        const records = parts
          .filter(({ name }) => name === "message")
          .map(({ data }) => JSON.parse(data) as EventRecord);
        const isSomeLost = parts.some(({ name }) => name === "lost");
        const eventsProblem = isSomeLost ? "Some events were dropped because this page was too slow." : "";
        const last = records.at(-1);
        if (last === undefined) return;
        this.#lastSeq = last.seq;
        this.#change({ events: [...this.#snapshot.events, ...records].slice(-MAX_EVENTS), eventsProblem }, records);
        this.#lookSoon();
      });
    } catch (error) {
      // The next poll reports any other error.
      if (error instanceof Refusal) this.#change({ eventsProblem: error.message });
    }
    if (this.#stream !== stream) return;
    await new Promise((wake) => setTimeout(wake, POLL_MS));
    if (this.#stream === stream) this.#stream = undefined;
    this.#wake();
  }

  #lookSoon(): void {
    if (this.#isNewsPending) return;
    this.#isNewsPending = true;
    setTimeout(() => {
      this.#isNewsPending = false;
      this.#wake();
    }, NEWS_MS);
  }

  #change(changes: Partial<Snapshot>, news: readonly EventRecord[] = []): void {
    this.#snapshot = { ...this.#snapshot, ...changes };
    if (!this.#stop.signal.aborted) this.#onChange(this.#snapshot, news);
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(resolve, ms) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
