/** Polls the running Envoy about its workers: counts their requests, and finds out when a draining worker has none left. */
import type { Clock } from "../../base/time.ts";
import type { HostStatus } from "../reading/adminAnswers.ts";
import { Drains, QUIET_MS } from "../reading/drains.ts";
import { OldClusterRequests } from "../reading/oldClusterRequests.ts";
import { UPSTREAM_FILTER, upstreamConnections } from "../reading/readings.ts";
import { addObservations, forgetAbsent, NO_COUNTS, type RequestCounts } from "../reading/requestCounts.ts";
import { byAddress, type ProxySettings, type Upstream, type UpstreamId } from "../resources/settings.ts";
import type { EnvoyRun } from "./run.ts";

/** Polling interval while no worker drains. */
const IDLE_POLL_MS = 1000;

/** Polling interval while a worker drains; it grows while nothing changes. */
const FIRST_POLL_MS = 10;
const LAST_POLL_MS = 100;

/** Minimum polling interval, as a multiple of the duration of a poll: polling many workers is slow. */
const POLL_COST_FACTOR = 10;

export interface WorkerWatchOptions {
  readonly clock: Clock;
  readonly settings: () => ProxySettings;
  /** These workers have no more work from the proxy. */
  readonly drained: (workers: readonly UpstreamId[]) => void;
  /** Requests that Envoy has sent to this incarnation of a worker so far. */
  readonly counted: (slot: number, incarnation: number, total: number) => void;
}

export class WorkerWatch {
  readonly #options: WorkerWatchOptions;
  readonly #drains = new Drains();
  readonly #oldCluster = new OldClusterRequests();
  /** The upstreams Envoy balances over. */
  #applied: ReadonlyMap<string, Upstream> = new Map();
  #hosts: ReadonlyMap<number, HostStatus> = new Map();
  #counts = NO_COUNTS;
  #waitMs = FIRST_POLL_MS;
  #pollCostMs = 0;
  /** While Envoy resets the counters of workers, a poll could not tell old counters from new ones. */
  #isSuspended = false;

  constructor(options: WorkerWatchOptions) {
    this.#options = options;
  }

  /** Latest states of the running Envoy's workers, by slot. */
  get hosts(): ReadonlyMap<number, HostStatus> {
    return this.#hosts;
  }

  get counts(): RequestCounts {
    return this.#counts;
  }

  /** Requests, or connections for tcp, in flight on the worker of a slot at the latest poll. */
  inFlight(slot: number): number {
    const host = this.#hosts.get(slot);
    if (host === undefined) return 0;
    const isTcp = this.#options.settings().protocol === "tcp";
    return isTcp ? host.connectionsActive : host.requestsActive + host.requestsPending;
  }

  /** Sets the desired upstreams. Returns whether a new drain started. */
  want(upstreams: readonly Upstream[]): boolean {
    return this.#drains.want(upstreams);
  }

  /** Envoy has applied these upstreams. */
  applied(upstreams: readonly Upstream[], run: EnvoyRun | undefined): void {
    this.#applied = byAddress(upstreams);
    this.#counts = forgetAbsent(this.#counts, new Set(upstreams.map(({ slot }) => slot)));
    if (!this.#drains.applied(upstreams)) return;
    this.#waitMs = FIRST_POLL_MS;
    run?.wake();
  }

  /** Polls until the run is over. */
  async follow(run: EnvoyRun): Promise<void> {
    while (!run.isOver) {
      if (!this.#isSuspended) await this.#poll(run);
      if (!run.isOver) await run.pause(this.#nextWait());
    }
  }

  /** Envoy has exited. Its workers' drains continue until endDrains(). */
  clear(): void {
    this.#oldCluster.clear();
    this.#applied = new Map();
    this.#hosts = new Map();
  }

  /** No Envoy runs, so nothing is in flight. */
  endDrains(): void {
    this.#options.drained(this.#drains.endAll());
  }

  /**
   * Calls `replace`, which replaces Envoy's cluster. Envoy then drops all counters of workers; running requests continue
   * but are not counted. Resolves and rejects as `replace` does.
   */
  async acrossReplacement(run: EnvoyRun, replace: () => Promise<string | undefined>): Promise<string | undefined> {
    this.#isSuspended = true;
    // Reads the counters before they are lost. A poll in progress ends before this one.
    await this.#poll(run);
    const before = [...this.#applied.values()];
    const reason = await replace().finally(() => {
      this.#isSuspended = false;
    });
    if (run.isOver) return reason;
    // On failure the counters continue, or restart with the restored cluster; the next poll finds out.
    if (reason === undefined) this.#counts = forgetAbsent(this.#counts, new Set());
    this.#oldCluster.replaced(this.#options.clock.now(), [...before, ...this.#applied.values()]);
    return reason;
  }

  #nextWait(): number {
    if (!this.#drains.isWatching) return IDLE_POLL_MS;
    if (this.#drains.isNearlyOver) return QUIET_MS;
    const waitMs = Math.max(this.#waitMs, this.#pollCostMs * POLL_COST_FACTOR);
    this.#waitMs = Math.min(this.#waitMs * 1.25, LAST_POLL_MS);
    return Math.min(waitMs, IDLE_POLL_MS);
  }

  async #poll(run: EnvoyRun): Promise<void> {
    const { clock, counted, drained } = this.#options;
    const at = clock.now();
    const before = await this.#readConnections(run);
    const statuses = await run.admin.clusters().catch(() => undefined);
    const after = await this.#readConnections(run);
    if (run.isOver || statuses === undefined) return;
    if (before !== undefined && after !== undefined) {
      const ofWorkers = statuses.reduce((sum, { connectionsActive }) => sum + connectionsActive, 0);
      this.#oldCluster.observe(at, { before, ofWorkers, after });
    }
    this.#pollCostMs = clock.now() - at;
    this.#record(run, statuses);
    for (const [slot, { incarnation, ofIncarnation }] of this.#counts.slots)
      if (this.#hosts.has(slot)) counted(slot, incarnation, ofIncarnation);
    const idle = this.#drains.observe(
      at,
      (slot, incarnation) => this.inFlight(slot) > 0 || this.#oldCluster.mayRunOn(slot, incarnation),
    );
    if (idle.length > 0) this.#waitMs = FIRST_POLL_MS;
    drained(idle);
  }

  #record(run: EnvoyRun, statuses: readonly HostStatus[]): void {
    const hosts = new Map<number, HostStatus>();
    const observations = [];
    for (const status of statuses) {
      const upstream = this.#applied.get(status.address);
      if (upstream === undefined) continue;
      const { slot, incarnation } = upstream;
      hosts.set(slot, status);
      observations.push({ slot, incarnation, requests: status.requestsTotal, failed: status.requestsFailed });
    }
    this.#hosts = hosts;
    this.#counts = addObservations(this.#counts, run.incarnation, observations);
  }

  /** Connections to workers, read only while some may belong to a replaced cluster. */
  async #readConnections(run: EnvoyRun): Promise<ReturnType<typeof upstreamConnections> | undefined> {
    if (!this.#oldCluster.isWatching) return undefined;
    const stats = await run.admin.stats(UPSTREAM_FILTER).catch(() => undefined);
    return stats === undefined ? undefined : upstreamConnections(stats);
  }
}
