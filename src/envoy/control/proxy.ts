/**
 * Controls one pool's Envoy: writes its configuration, polls its state and notifies the listener. It makes no decisions
 * and neither starts nor stops the process; its owner does, and calls prepare(), spawned() and ended().
 *
 * Invariants: every notification carries its incarnation. None is about an Envoy that has exited, and none is made from
 * inside a call by the listener. Envoy may exit at any moment; requests to it then fail.
 */
import { existsSync, lstatSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { after, type Instant } from "../../base/time.ts";
import type { HostStatus } from "../reading/adminAnswers.ts";
import { type Drained, Drains, QUIET_MS } from "../reading/drains.ts";
import { type Enlisted, Enlistments } from "../reading/enlistments.ts";
import {
  appliedState,
  countersOf,
  DOWNSTREAM_FILTER,
  downstreamActive,
  HISTOGRAM_FILTER,
  type ProxyReadings,
  READINGS_FILTER,
  readingsOf,
  UPDATE_FILTER,
  UPSTREAM_FILTER,
  upstreamConnections,
} from "../reading/readings.ts";
import { addNamed, addObservations, forgetAbsent, NO_COUNTS, NO_NAMED_COUNTS } from "../reading/requestCounts.ts";
import { Stragglers } from "../reading/stragglers.ts";
import { bootstrap } from "../resources/bootstrap.ts";
import { MAX_EJECTION_KEY, maxEjectionPercent } from "../resources/cluster.ts";
import { type ProxyFiles, proxyFiles } from "../resources/files.ts";
import { Resources } from "../resources/resources.ts";
import { formatAddress, type ProxyPlaces, type ProxySettings, type Upstream } from "../resources/settings.ts";
import type { Clock } from "./clock.ts";
import { serveArgs } from "./commandLine.ts";
import { FirstChecks } from "./firstChecks.ts";
import { makeOwn, makePassable, makeReadable, writeWhole } from "./privateFiles.ts";
import { Publisher } from "./publisher.ts";
import { type Replacement, replaceResource } from "./replaceResource.ts";
import { EnvoyRun } from "./run.ts";
import { TlsCopies } from "./tlsCopies.ts";

/** Polling interval while Envoy starts, which takes 50 to 150 ms. */
const FIRST_START_LOOK_MS = 5;
const LAST_START_LOOK_MS = 50;

/** Polling interval while a worker drains; it grows while nothing changes. */
const FIRST_DRAIN_LOOK_MS = 10;
const LAST_DRAIN_LOOK_MS = 100;

/** Minimum polling interval, as a multiple of the duration of a poll: polling many workers is slow. */
const LOOK_COST_FACTOR = 10;

const READINGS_MS = 1000;

/** Maximum time for Envoy to apply new settings. A new cluster first checks each worker, which takes up to 2 s. */
const RECONFIGURE_MS = 5000;

/** Polling interval until a new cluster has its endpoints, which takes 1 to 2 ms. */
const ENDPOINTS_LOOK_MS = 2;

/**
 * Envoy's main thread reports an update before its other threads have read it. They read updates in order, so the delay
 * has no effect while another worker serves. The first worker is reported this much later; otherwise the first clients
 * on a busy machine would find no worker.
 */
const FIRST_WORKER_GRACE_MS = 50;

/** Receives what Envoy reports. Called from the event loop, never from inside a call of a method of PoolProxy. */
export interface ProxyListener {
  /** The listener accepts connections. */
  ready(incarnation: number): void;
  /** Envoy runs but cannot listen, and does not retry. */
  failed(incarnation: number, reason: string): void;
  /** A serving worker receives requests from now on. */
  enlisted(slot: number, incarnation: number): void;
  /** A draining worker has no more work from the proxy. */
  drained(slot: number, incarnation: number): void;
  /** Envoy accepts no more connections, and no client request is left (tcp: no connection). */
  listenersDrained(): void;
  /** Requests that Envoy has sent to this incarnation of a worker so far. */
  requestsCounted(slot: number, incarnation: number, total: number): void;
  /** An update of the endpoints is not applied after `waitedMs`; the write is retried. */
  updateLate(waitedMs: number): void;
  /** Envoy rejected an update of the endpoints and keeps the previous ones. */
  updateRefused(reason: string): void;
  /** The endpoints could not be written; the write is retried. */
  writeFailed(error: Error): void;
}

export interface ProxyOptions {
  readonly settings: ProxySettings;
  readonly places: ProxyPlaces;
  readonly clock: Clock;
  readonly listener: ProxyListener;
}

/**
 * Envoy first discourages clients and still accepts connections. When none is left or the drain time is over, it stops
 * accepting connections. Then the remaining requests end.
 */
interface ListenerDrain {
  readonly since: Instant;
  phase: "wanted" | "discouraging" | "stopped";
  /** Since when nothing has been left to wait for in this phase. */
  quietSince: Instant | undefined;
}

export class PoolProxy implements Disposable {
  #settings: ProxySettings;
  readonly #places: ProxyPlaces;
  readonly #files: ProxyFiles;
  readonly #clock: Clock;
  readonly #listener: ProxyListener;
  readonly #publisher: Publisher;
  readonly #resources: Resources;
  readonly #tls: TlsCopies;
  readonly #drains = new Drains();
  readonly #enlistments = new Enlistments();
  readonly #firstChecks: FirstChecks;
  readonly #stragglers = new Stragglers();
  #run: EnvoyRun | undefined;
  /** The upstreams Envoy balances over, by address as Envoy prints it. */
  #applied: ReadonlyMap<string, Upstream> = new Map();
  /** Latest states of the running Envoy's workers, by slot. */
  #hosts: ReadonlyMap<number, HostStatus> = new Map();
  #stats: ReadonlyMap<string, number | string> = new Map();
  #workerCounts = NO_COUNTS;
  #counts = NO_NAMED_COUNTS;
  #areReadingsWanted = false;
  #drainWaitMs = FIRST_DRAIN_LOOK_MS;
  #lookCostMs = 0;
  #listenerDrain: ListenerDrain | undefined;
  /** The last change of the settings; changes run one after another. */
  #reconfiguration: Promise<unknown> = Promise.resolve();
  /** Set while Envoy resets the counters of workers; a poll could not tell old counters from new ones. */
  #isClusterChanging = false;
  #isClosed = false;

  constructor({ settings, places, clock, listener }: ProxyOptions) {
    this.#settings = settings;
    this.#places = places;
    this.#files = proxyFiles(places);
    this.#clock = clock;
    this.#listener = listener;
    this.#resources = new Resources(this.#files, places.user);
    this.#tls = new TlsCopies(places);
    this.#firstChecks = new FirstChecks({
      clock,
      applied: () => this.#applied,
      isAnyAwaited: () => this.#enlistments.isAnyAwaited,
      passed: (upstreams) => this.#enlist(upstreams),
    });
    this.#publisher = new Publisher({
      file: this.#files.endpoints,
      user: places.user,
      clock,
      listener: {
        applied: (upstreams) => this.#endpointsApplied(upstreams),
        updateLate: (_, waitedMs) => listener.updateLate(waitedMs),
        updateRefused: (version) =>
          listener.updateRefused(`Envoy refused version ${version} of the endpoints; its log says why`),
        // publish() writes synchronously, inside a call by the listener.
        writeFailed: (error) => this.#soon(() => listener.writeFailed(error)),
      },
    });
  }

  /** Incarnation of the running Envoy; undefined while none runs. */
  get incarnation(): number | undefined {
    return this.#run?.incarnation;
  }

  /**
   * What the running Envoy needs but was removed from disk: its admin socket, without which it cannot be controlled, or
   * a directory that it watches. Recreating the directory does not help, because Envoy watches the old one.
   */
  get lostFiles(): "admin" | "watched" | undefined {
    if (this.#run?.isServing !== true) return undefined;
    const { admin } = this.#places;
    if ("socketPath" in admin && !existsSync(admin.socketPath)) return "admin";
    const { listeners, clusters, routes, endpoints } = this.#files;
    return [listeners, clusters, routes, endpoints].every((file) => existsSync(dirname(file))) ? undefined : "watched";
  }

  /**
   * Reads the certificate and key that Envoy cannot read itself. Must resolve before the first prepare(); later calls
   * make Envoy use renewed files. Rejects with a FileError.
   */
  async loadFiles(): Promise<void> {
    const isChanged = await this.#tls.load(this.#settings);
    if (isChanged && this.#resources.isWritten) await this.reconfigure(this.#settings);
  }

  /** Writes everything Envoy reads. Call it before each spawn. @throws Error of the system */
  prepare(): void {
    const { bootstrap: file, endpoints } = this.#files;
    const { admin, directory, user } = this.#places;
    if (user !== undefined) makePassable(directory);
    makeReadable(dirname(endpoints), user);
    if ("socketPath" in admin) {
      makeOwn(dirname(admin.socketPath), user);
      // Envoy cannot bind the socket of its killed predecessor. Any other kind of file is not ours to remove.
      if (lstatSync(admin.socketPath, { throwIfNoEntry: false })?.isSocket()) rmSync(admin.socketPath, { force: true });
    }
    const settings = this.#tls.place(this.#settings);
    writeWhole(file, bootstrap(settings, this.#places), user);
    this.#resources.writeAll(settings);
    this.#tls.keepOnly(settings);
    this.#publisher.prepare();
  }

  /** Envoy's arguments. */
  args(): string[] {
    return serveArgs(this.#settings, this.#places);
  }

  /** Envoy was started after prepare(). Polls it until it listens. */
  spawned(incarnation: number): void {
    this.#endRun();
    if (this.#isClosed) return;
    const run = new EnvoyRun(incarnation, this.#places.admin, this.#clock);
    this.#run = run;
    void this.#awaitListener(run);
  }

  /** Makes the running Envoy exit at once. Resolves with false if Envoy does not listen yet, or hangs. */
  async quit(): Promise<boolean> {
    const run = this.#run;
    if (run === undefined) return false;
    try {
      await run.admin.quit();
      return true;
    } catch (error) {
      // Envoy may exit before its response is sent.
      return run.isOver || (error instanceof Error && "code" in error && error.code === "ECONNRESET");
    }
  }

  /** The Envoy process has exited, which ended all its requests. */
  ended(): void {
    this.#endRun();
    this.#tellDrained(this.#drains.endAll());
    this.#tellEnlisted(this.#enlistments.all());
    this.#tellListenersDrained();
  }

  /** Sets the desired upstreams; cheap if nothing changed. */
  update(upstreams: readonly Upstream[]): void {
    if (this.#isClosed) return;
    const isDrainNew = this.#drains.want(upstreams);
    const isServingNew = this.#enlistments.want(upstreams);
    this.#publisher.publish(upstreams);
    if ((isDrainNew || isServingNew) && this.#run === undefined) this.#soon(() => this.#answerWithoutEnvoy());
  }

  /**
   * Applies new settings to the running Envoy, or to the next one. Resolves with undefined on success, otherwise with
   * the reason; then everything is as it was before. Never rejects. If Envoy exits meanwhile or does not serve yet, it
   * starts with the new settings.
   *
   * Envoy closes client connections only if the listener itself changes (address, port, protocol, TLS, access log):
   * each after its next response, or at the end of the drain time.
   */
  reconfigure(settings: ProxySettings): Promise<string | undefined> {
    const turn = this.#reconfiguration.then(() => this.#reconfigure(settings));
    this.#reconfiguration = turn;
    return turn;
  }

  /**
   * Requests in flight on the worker of a slot at the latest poll. Excludes those that began before reconfigure()
   * replaced the cluster, because Envoy does not report which worker has them.
   */
  inFlight(slot: number): number {
    const host = this.#hosts.get(slot);
    return host === undefined ? 0 : this.#busyness(host);
  }

  /**
   * Discourages clients, and stops listening when no connection is left or the drain time is over. `listenersDrained`
   * reports the end.
   */
  drainListeners(): void {
    if (this.#listenerDrain !== undefined || this.#isClosed) return;
    this.#listenerDrain = { since: this.#clock.now(), phase: "wanted", quietSince: undefined };
    const run = this.#run;
    if (run === undefined) this.#soon(() => this.#run === undefined && this.#tellListenersDrained());
    else if (run.isServing) void this.#askToDrain(run);
  }

  /** The latest readings. From the first call on, they are read once a second, which also feeds `requestsCounted`. */
  readings(): ProxyReadings {
    if (!this.#areReadingsWanted) {
      this.#areReadingsWanted = true;
      if (this.#run?.isServing === true) this.#run.wake();
    }
    return readingsOf(this.#workerCounts, this.#hosts, this.#counts, this.#stats);
  }

  /** Stops polling, writing and notifying. The files stay. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#listenerDrain = undefined;
    this.#endRun();
  }

  #endRun(): void {
    this.#run?.[Symbol.dispose]();
    this.#run = undefined;
    this.#publisher.detach();
    this.#stragglers.clear();
    this.#applied = new Map();
    this.#hosts = new Map();
    this.#stats = new Map();
  }

  /** Calls `tell` later in this turn of the event loop, unless closed by then. */
  #soon(tell: () => void): void {
    queueMicrotask(() => {
      if (!this.#isClosed) tell();
    });
  }

  #answerWithoutEnvoy(): void {
    if (this.#run !== undefined) return;
    this.#tellDrained(this.#drains.endAll());
    this.#tellEnlisted(this.#enlistments.all());
  }

  #tellEnlisted(enlisted: readonly Enlisted[]): void {
    for (const { slot, incarnation } of enlisted) this.#soon(() => this.#listener.enlisted(slot, incarnation));
  }

  #tellDrained(drained: readonly Drained[]): void {
    for (const { slot, incarnation } of drained) this.#soon(() => this.#listener.drained(slot, incarnation));
  }

  #tellListenersDrained(): void {
    if (this.#listenerDrain === undefined) return;
    this.#listenerDrain = undefined;
    this.#soon(() => this.#listener.listenersDrained());
  }

  async #awaitListener(run: EnvoyRun): Promise<void> {
    for (let waitMs = FIRST_START_LOOK_MS; !run.isOver; waitMs = Math.min(waitMs * 1.5, LAST_START_LOOK_MS)) {
      const state = (await run.admin.isReady()) ? await run.admin.listeners().catch(() => undefined) : undefined;
      if (run.isOver) return;
      if (state !== undefined && state.active > 0) {
        this.#serves(run);
        return;
      }
      if (state !== undefined && state.failures > 0) {
        this.#listener.failed(run.incarnation, state.reason ?? "Envoy refused its listener; its log says why");
        return;
      }
      await run.pause(waitMs);
    }
  }

  #serves(run: EnvoyRun): void {
    run.isServing = true;
    this.#publisher.attach(async () => appliedState(await run.admin.stats(UPDATE_FILTER)));
    void this.#watch(run);
    if (this.#listenerDrain !== undefined) void this.#askToDrain(run);
    this.#listener.ready(run.incarnation);
  }

  async #askToDrain(run: EnvoyRun): Promise<void> {
    for (let waitMs = FIRST_DRAIN_LOOK_MS; !run.isOver; waitMs = Math.min(waitMs * 2, LAST_DRAIN_LOOK_MS)) {
      const isAsked = await run.admin.drainListeners().then(
        () => true,
        () => false,
      );
      if (run.isOver || this.#listenerDrain === undefined) return;
      if (isAsked) {
        this.#listenerDrain.phase = "discouraging";
        this.#drainWaitMs = FIRST_DRAIN_LOOK_MS;
        run.wake();
        return;
      }
      await run.pause(waitMs);
    }
  }

  #endpointsApplied(upstreams: readonly Upstream[]): void {
    this.#applied = new Map(upstreams.map((upstream) => [formatAddress(upstream.address), upstream]));
    this.#workerCounts = forgetAbsent(this.#workerCounts, new Set(upstreams.map(({ slot }) => slot)));
    const run = this.#run;
    if (run !== undefined) this.#limitEjections(run, upstreams);
    if (this.#settings.healthCheckPath === undefined || run === undefined) this.#enlist(upstreams);
    else if (this.#enlistments.isAnyAwaited) this.#firstChecks.await(run);
    if (!this.#drains.applied(upstreams)) return;
    this.#drainWaitMs = FIRST_DRAIN_LOOK_MS;
    this.#run?.wake();
  }

  /** Keeps Envoy from ejecting the last serving worker. If Envoy does not answer, the next update repeats it. */
  #limitEjections(run: EnvoyRun, upstreams: readonly Upstream[]): void {
    const serving = upstreams.filter(({ state }) => state === "serving").length;
    const percent = maxEjectionPercent(serving, upstreams.length);
    if (run.maxEjectionPercent === percent) return;
    run.maxEjectionPercent = percent;
    run.admin.setRuntime(MAX_EJECTION_KEY, percent).catch(() => {
      run.maxEjectionPercent = undefined;
    });
  }

  /** Envoy balances over these upstreams now. */
  #enlist(upstreams: readonly Upstream[]): void {
    const wasAnyEnlisted = this.#enlistments.isAnyEnlisted;
    const enlisted = this.#enlistments.applied(upstreams);
    if (wasAnyEnlisted || enlisted.length === 0) this.#tellEnlisted(enlisted);
    else this.#clock.wakeAt(after(this.#clock.now(), FIRST_WORKER_GRACE_MS), () => this.#tellEnlisted(enlisted));
  }

  /** Polls the workers and the listener as often as drains and readings need it, while this Envoy runs. */
  async #watch(run: EnvoyRun): Promise<void> {
    let readAt = this.#clock.now();
    while (!run.isOver) {
      const now = this.#clock.now();
      const isReadingDue = this.#areReadingsWanted && now >= readAt;
      const isLookDue = this.#drains.isWatching || isReadingDue;
      if (isLookDue && !this.#isClusterChanging) await this.#lookAtWorkers(run);
      if (!run.isOver && this.#isListenerWatched) await this.#lookAtListener(run);
      if (!run.isOver && isReadingDue) {
        readAt = after(now, READINGS_MS);
        await this.#read(run);
      }
      if (run.isOver) return;
      const waits = [Number.POSITIVE_INFINITY];
      if (this.#areReadingsWanted) waits.push(readAt - this.#clock.now());
      if (this.#drains.isWatching || this.#isListenerWatched) waits.push(this.#nextDrainWait());
      const waitMs = Math.max(1, Math.min(...waits));
      // With nothing to poll it sleeps until it is woken.
      await run.pause(Number.isFinite(waitMs) ? waitMs : 2 ** 31 - 1);
    }
  }

  get #isListenerWatched(): boolean {
    return this.#listenerDrain !== undefined && this.#listenerDrain.phase !== "wanted";
  }

  #nextDrainWait(): number {
    if (this.#drains.isNearlyOver || this.#listenerDrain?.quietSince !== undefined) return QUIET_MS;
    const waitMs = Math.max(this.#drainWaitMs, this.#lookCostMs * LOOK_COST_FACTOR);
    this.#drainWaitMs = Math.min(this.#drainWaitMs * 1.25, LAST_DRAIN_LOOK_MS);
    return waitMs;
  }

  async #lookAtWorkers(run: EnvoyRun): Promise<void> {
    const at = this.#clock.now();
    const before = await this.#upstreamConnections(run);
    const statuses = await run.admin.clusters().catch(() => undefined);
    const afterwards = await this.#upstreamConnections(run);
    if (run.isOver || statuses === undefined) return;
    if (before !== undefined && afterwards !== undefined) {
      const ofWorkers = statuses.reduce((sum, { connectionsActive }) => sum + connectionsActive, 0);
      this.#stragglers.look(at, { before, ofWorkers, after: afterwards });
    }
    this.#lookCostMs = this.#clock.now() - at;
    const hosts = new Map<number, HostStatus>();
    const observations = [];
    for (const status of statuses) {
      const upstream = this.#applied.get(status.address);
      if (upstream === undefined) continue;
      hosts.set(upstream.slot, status);
      const { slot, incarnation } = upstream;
      observations.push({ slot, incarnation, requests: status.requestsTotal, failed: status.requestsFailed });
    }
    this.#hosts = hosts;
    this.#workerCounts = addObservations(this.#workerCounts, run.incarnation, observations);
    for (const { slot, incarnation } of observations)
      this.#listener.requestsCounted(slot, incarnation, this.#workerCounts.slots.get(slot)?.ofIncarnation ?? 0);
    const drained = this.#drains.look(
      at,
      (slot, incarnation) => this.inFlight(slot) > 0 || this.#stragglers.mayHave(slot, incarnation),
    );
    if (drained.length > 0) this.#drainWaitMs = FIRST_DRAIN_LOOK_MS;
    this.#tellDrained(drained);
  }

  /** Connections to workers, read only while some may belong to a replaced cluster. */
  async #upstreamConnections(run: EnvoyRun): Promise<ReturnType<typeof upstreamConnections> | undefined> {
    if (!this.#stragglers.isWatching) return undefined;
    const stats = await run.admin.stats(UPSTREAM_FILTER).catch(() => undefined);
    return stats === undefined ? undefined : upstreamConnections(stats);
  }

  /** Work on a worker: its requests, and those that wait for a connection to it. */
  #busyness({ requestsActive, requestsPending, connectionsActive }: HostStatus): number {
    return this.#settings.protocol === "tcp" ? connectionsActive : requestsActive + requestsPending;
  }

  async #lookAtListener(run: EnvoyRun): Promise<void> {
    const at = this.#clock.now();
    const stats = await run.admin.stats(DOWNSTREAM_FILTER).catch(() => undefined);
    const drain = this.#listenerDrain;
    if (run.isOver || stats === undefined || drain === undefined) return;
    const { connections, requests } = downstreamActive(stats);
    const isStopped = drain.phase === "stopped";
    // An idle connection may stay for an hour, so only requests count once Envoy has stopped listening.
    const left = isStopped && this.#settings.protocol !== "tcp" ? requests : connections;
    if (left > 0) drain.quietSince = undefined;
    else drain.quietSince ??= at;
    const isQuiet = drain.quietSince !== undefined && at >= after(drain.quietSince, QUIET_MS);
    if (isStopped) {
      if (isQuiet) this.#tellListenersDrained();
    } else if (isQuiet || at >= after(drain.since, this.#settings.drainTimeSeconds * 1000))
      await this.#stopListening(run);
  }

  async #stopListening(run: EnvoyRun): Promise<void> {
    const isStopped = await run.admin.stopListeners().then(
      () => true,
      () => false,
    );
    const drain = this.#listenerDrain;
    if (run.isOver || !isStopped || drain === undefined) return;
    drain.phase = "stopped";
    drain.quietSince = undefined;
    this.#drainWaitMs = FIRST_DRAIN_LOOK_MS;
  }

  async #read(run: EnvoyRun): Promise<void> {
    const stats = await run.admin.stats(READINGS_FILTER).catch(() => undefined);
    const histograms = await run.admin.histograms(HISTOGRAM_FILTER).catch(() => undefined);
    if (run.isOver || stats === undefined || histograms === undefined) return;
    this.#stats = stats;
    this.#counts = addNamed(this.#counts, run.incarnation, countersOf(stats, histograms));
  }

  async #reconfigure(settings: ProxySettings): Promise<string | undefined> {
    const before = this.#settings;
    if (settings.pool !== before.pool || settings.concurrency !== before.concurrency)
      return "the name of the pool and concurrency are given to Envoy at its start";
    const deadline = after(this.#clock.now(), RECONFIGURE_MS);
    while (this.#run?.isServing === false && this.#clock.now() < deadline) await this.#run.pause(FIRST_START_LOOK_MS);
    if (this.#isClosed) return "the proxy is closed";
    if (this.#listenerDrain !== undefined) return "Envoy is about to stop listening";
    const run = this.#run;
    // From here on a starting Envoy uses the new settings.
    this.#settings = settings;
    this.#resources.begin();
    let reason: string | undefined;
    try {
      await this.#tls.load(settings);
      const placed = this.#tls.place(settings);
      if (run?.isServing === true) reason = await this.#takeOver(run, placed, before, deadline);
      else this.#writeOnly(placed);
      if (reason === undefined) this.#tls.keepOnly(placed);
    } catch (error) {
      reason = reasonOf(error);
    }
    if (reason === undefined) return undefined;
    this.#settings = before;
    try {
      this.#resources.restore();
    } catch (error) {
      return `${reason}; and what was before cannot be written: ${reasonOf(error)}`;
    }
    return reason;
  }

  /** Changes one resource after another in a running Envoy. */
  async #takeOver(
    run: EnvoyRun,
    settings: ProxySettings,
    { protocol }: ProxySettings,
    deadline: Instant,
  ): Promise<string | undefined> {
    for (const kind of this.#resources.changed(settings)) {
      const order = { run, resources: this.#resources, kind, settings, clock: this.#clock, deadline };
      let reason: string | undefined;
      if (kind === "cluster") reason = await this.#replaceCluster(order);
      // A TCP listener has no routes, and a new HTTP listener reads them itself.
      else if (kind === "routes" && protocol === "tcp") this.#resources.replace(kind, settings);
      else reason = await replaceResource(order);
      // The next Envoy must find all files up to date.
      if (run.isOver) return this.#writeOnly(settings);
      if (reason !== undefined) return reason;
    }
    return undefined;
  }

  /** No Envoy serves: updates the files for the next one. */
  #writeOnly(settings: ProxySettings): undefined {
    if (!this.#resources.isWritten) return;
    for (const kind of this.#resources.changed(settings)) this.#resources.replace(kind, settings);
  }

  /** Replaces Envoy's cluster, which drops all counters of workers. Running requests continue but are not counted. */
  async #replaceCluster(order: Replacement): Promise<string | undefined> {
    const { run, deadline } = order;
    this.#isClusterChanging = true;
    // Reads the counters before they are lost. A poll in progress ends before this one.
    await this.#lookAtWorkers(run);
    const suspects = [...this.#applied.values()];
    const reason = await replaceResource(order).finally(() => {
      this.#isClusterChanging = false;
    });
    if (run.isOver) return undefined;
    // On failure the counters continue, or restart with the restored cluster; the next poll finds out.
    if (reason === undefined) this.#workerCounts = forgetAbsent(this.#workerCounts, new Set());
    this.#stragglers.replaced(this.#clock.now(), [...suspects, ...this.#applied.values()]);
    this.#publisher.renew();
    run.wake();
    // The publisher reports late endpoints.
    while (reason === undefined && !this.#publisher.isApplied && !run.isOver && this.#clock.now() < deadline)
      await run.pause(ENDPOINTS_LOOK_MS);
    return reason;
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
