/**
 * Controls one pool's Envoy: writes its configuration, polls its state and notifies the listener. It makes no decisions
 * and neither starts nor stops the process; its owner does, and calls prepare(), spawned() and ended().
 *
 * Invariants: every notification carries its incarnation. None is about an Envoy that has exited, and none is made from
 * inside a call by the listener. Envoy may exit at any moment; requests to it then fail.
 */
import type { ProxyReadings } from "../../base/readings.ts";
import type { Clock, Instant } from "../../base/time.ts";
import { appliedState, readingsOf, UPDATE_FILTER } from "../reading/readings.ts";
import { MAX_EJECTION_KEY, maxEjectionPercent } from "../resources/cluster.ts";
import { proxyFiles } from "../resources/files.ts";
import type { ProxyLocation, ProxySettings, Upstream } from "../resources/settings.ts";
import { Configuration } from "./configuration.ts";
import { EndpointActivation } from "./endpointActivation.ts";
import { drainListener } from "./listenerDrain.ts";
import { Publisher } from "./publisher.ts";
import { Reconfiguration } from "./reconfiguration.ts";
import { EnvoyRun } from "./run.ts";
import { Statistics } from "./statistics.ts";
import { WorkerWatch } from "./workerWatch.ts";

/** Polling interval while Envoy starts, which takes 50 to 150 ms. */
const FIRST_START_POLL_MS = 5;
const LAST_START_POLL_MS = 50;

/** Receives what Envoy reports. Called from the event loop, never from inside a call of a method of PoolProxy. */
export interface ProxyListener {
  /** The listener accepts connections. */
  ready(incarnation: number): void;
  /** Envoy runs but cannot listen, and does not retry. */
  failed(incarnation: number, reason: string): void;
  /** A serving worker receives requests from now on. */
  activated(slot: number, incarnation: number): void;
  /** A draining worker has no more work from the proxy. */
  drained(slot: number, incarnation: number): void;
  /** Envoy accepts no more connections, and no client request is left (tcp: no connection). */
  listenersDrained(): void;
  /** Requests that Envoy has sent to this incarnation of a worker so far; reported about once a second. */
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
  readonly location: ProxyLocation;
  readonly clock: Clock;
  readonly listener: ProxyListener;
}

export class PoolProxy implements Disposable {
  readonly #location: ProxyLocation;
  readonly #clock: Clock;
  readonly #listener: ProxyListener;
  readonly #configuration: Configuration;
  readonly #publisher: Publisher;
  readonly #activation: EndpointActivation;
  readonly #workers: WorkerWatch;
  readonly #statistics: Statistics;
  readonly #reconfiguration: Reconfiguration;
  #run: EnvoyRun | undefined;
  /** When the drain of the listener was requested; undefined while none is in progress. */
  #drainingSince: Instant | undefined;
  #isClosed = false;

  constructor({ settings, location, clock, listener }: ProxyOptions) {
    this.#location = location;
    this.#clock = clock;
    this.#listener = listener;
    this.#configuration = new Configuration(settings, location);
    this.#activation = new EndpointActivation(clock, (workers) => {
      for (const { slot, incarnation } of workers) this.#soon(() => listener.activated(slot, incarnation));
    });
    this.#workers = new WorkerWatch({
      clock,
      settings: () => this.#configuration.settings,
      drained: (workers) => {
        for (const { slot, incarnation } of workers) this.#soon(() => listener.drained(slot, incarnation));
      },
      counted: (slot, incarnation, total) => listener.requestsCounted(slot, incarnation, total),
    });
    this.#statistics = new Statistics(clock);
    this.#publisher = new Publisher({
      file: proxyFiles(location).endpoints,
      user: location.user,
      clock,
      listener: {
        applied: (upstreams) => this.#endpointsApplied(upstreams),
        updateLate: (_, waitedMs) => listener.updateLate(waitedMs),
        updateRefused: (version) =>
          listener.updateRefused(`Envoy rejected version ${version} of the endpoints; its log says why`),
        // publish() writes synchronously, inside a call by the listener.
        writeFailed: (error) => this.#soon(() => listener.writeFailed(error)),
      },
    });
    this.#reconfiguration = new Reconfiguration({
      configuration: this.#configuration,
      clock,
      publisher: this.#publisher,
      workers: this.#workers,
      run: () => this.#run,
      obstacle: () => {
        if (this.#isClosed) return "the proxy is closed";
        return this.#drainingSince === undefined ? undefined : "Envoy is about to stop listening";
      },
    });
  }

  /** Incarnation of the running Envoy; undefined while none runs. */
  get incarnation(): number | undefined {
    return this.#run?.incarnation;
  }

  /** What a serving Envoy needs but was removed from disk; see Configuration. */
  get lostFiles(): "admin" | "watched" | undefined {
    return this.#run?.isServing === true ? this.#configuration.lostFiles : undefined;
  }

  /**
   * Reads the certificate and key that Envoy cannot read itself. Must resolve before the first prepare(); later calls
   * make Envoy use renewed files. Rejects with a FileError.
   */
  async loadFiles(): Promise<void> {
    if (await this.#configuration.loadTls()) await this.reconfigure(this.#configuration.settings);
  }

  /** Writes everything Envoy reads. Call it before each spawn. @throws Error of the system */
  prepare(): void {
    this.#configuration.write();
    this.#publisher.prepare();
  }

  /** Envoy's arguments. */
  args(): string[] {
    return this.#configuration.args();
  }

  /** Envoy was started after prepare(). Polls it until it listens. */
  spawned(incarnation: number): void {
    this.#endRun();
    if (this.#isClosed) return;
    this.#run = new EnvoyRun(incarnation, this.#location.admin, this.#clock);
    void this.#awaitListener(this.#run);
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
    this.#settleWithoutEnvoy();
    this.#endListenerDrain();
  }

  /** Sets the desired upstreams; cheap if nothing changed. */
  update(upstreams: readonly Upstream[]): void {
    if (this.#isClosed) return;
    const isDrainNew = this.#workers.want(upstreams);
    const isServingNew = this.#activation.want(upstreams);
    this.#publisher.publish(upstreams);
    if ((isDrainNew || isServingNew) && this.#run === undefined)
      this.#soon(() => this.#run === undefined && this.#settleWithoutEnvoy());
  }

  /**
   * Applies new settings to the running Envoy, or to the next one. Resolves with undefined on success, otherwise with
   * the reason; then everything is as it was before. Never rejects. If Envoy exits meanwhile or does not serve yet, it
   * starts with the new settings. Changes run one after another.
   *
   * Envoy closes client connections only if the listener itself changes (address, port, protocol, TLS, access log):
   * each after its next response, or at the end of the drain time.
   */
  reconfigure(settings: ProxySettings): Promise<string | undefined> {
    return this.#reconfiguration.change(settings);
  }

  /**
   * Requests in flight on the worker of a slot at the latest poll. Excludes those that began before reconfigure()
   * replaced the cluster, because Envoy does not report which worker has them.
   */
  inFlight(slot: number): number {
    return this.#workers.inFlight(slot);
  }

  /**
   * Discourages clients, and stops listening when no connection is left or the drain time is over. `listenersDrained`
   * reports the end.
   */
  drainListeners(): void {
    if (this.#drainingSince !== undefined || this.#isClosed) return;
    this.#drainingSince = this.#clock.now();
    if (this.#run === undefined) this.#soon(() => this.#run === undefined && this.#endListenerDrain());
    else if (this.#run.isServing) void this.#drainListener(this.#run, this.#drainingSince);
  }

  /** The latest readings, at most about a second old. */
  readings(): ProxyReadings {
    const { counts, hosts } = this.#workers;
    return readingsOf(counts, hosts, this.#statistics.counts, this.#statistics.latest);
  }

  /** Stops polling, writing and notifying. The files stay. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#endRun();
  }

  #endRun(): void {
    this.#run?.[Symbol.dispose]();
    this.#run = undefined;
    this.#publisher.detach();
    this.#workers.clear();
    this.#statistics.clear();
  }

  /** Calls `notify` later in this turn of the event loop, unless closed by then. */
  #soon(notify: () => void): void {
    queueMicrotask(() => {
      if (!this.#isClosed) notify();
    });
  }

  /** No Envoy runs, so nothing is in flight, and the next one starts with the desired upstreams. */
  #settleWithoutEnvoy(): void {
    this.#workers.endDrains();
    this.#activation.activateAll();
  }

  #endListenerDrain(): void {
    if (this.#drainingSince === undefined) return;
    this.#drainingSince = undefined;
    this.#soon(() => this.#listener.listenersDrained());
  }

  async #drainListener(run: EnvoyRun, since: Instant): Promise<void> {
    await drainListener({ run, since, settings: () => this.#configuration.settings, clock: this.#clock });
    if (!run.isOver) this.#endListenerDrain();
  }

  async #awaitListener(run: EnvoyRun): Promise<void> {
    for (let waitMs = FIRST_START_POLL_MS; !run.isOver; waitMs = Math.min(waitMs * 1.5, LAST_START_POLL_MS)) {
      const state = (await run.admin.isReady()) ? await run.admin.listeners().catch(() => undefined) : undefined;
      if (run.isOver) return;
      if (state !== undefined && state.active > 0) {
        this.#serve(run);
        return;
      }
      if (state !== undefined && state.failures > 0) {
        this.#listener.failed(run.incarnation, state.reason ?? "Envoy rejected its listener; its log says why");
        return;
      }
      await run.pause(waitMs);
    }
  }

  #serve(run: EnvoyRun): void {
    run.serve();
    this.#publisher.attach(async () => appliedState(await run.admin.stats(UPDATE_FILTER)));
    void this.#workers.follow(run);
    void this.#statistics.follow(run);
    if (this.#drainingSince !== undefined) void this.#drainListener(run, this.#drainingSince);
    this.#listener.ready(run.incarnation);
  }

  #endpointsApplied(upstreams: readonly Upstream[]): void {
    const run = this.#run;
    this.#workers.applied(upstreams, run);
    if (run !== undefined) this.#limitEjections(run, upstreams);
    this.#activation.applied(upstreams, this.#configuration.settings.healthCheckPath === undefined ? undefined : run);
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
}
