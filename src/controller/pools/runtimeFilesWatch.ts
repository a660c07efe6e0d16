/**
 * Heals what a cleaner of temporary files removed: creates the directories again, and replaces the processes that used the
 * removed files. Envoy watches removed directories indefinitely, and a socket cannot be linked again once it is unlinked.
 */
import { existsSync } from "node:fs";
import type { Logger } from "../../base/log.ts";
import { after, type Instant } from "../../base/time.ts";
import { proxyName } from "../../config/spec.ts";
import { workerId } from "../../core/identity.ts";
import type { Order } from "../../core/pool/order.ts";
import type { PoolView, WorkerView } from "../../core/view.ts";
import type { UpstreamAddress } from "../../envoy/resources/settings.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import type { RuntimeDirectory } from "./runtimeDirectory.ts";
import type { Traffic } from "./traffic.ts";
import type { WorkerPlaces } from "./workerPlaces.ts";

/** Interval between checks of the files; a check is one stat(2) for each directory and socket. */
const LOOK_MS = 5000;

/** Interval while no pool needs files there. */
const PAUSE_MS = 15_000;

/** A process that was not replaced within this time is ordered to be replaced again. */
const REPEAT_MS = 60_000;

const HINT = "Exclude it from the cleanup of temporary files (tmpfiles.d), or set supervisor.runtime_dir below /run.";

/** What a worker lost, as worded in messages. */
type Loss = "socket" | "metrics directory";

export interface RuntimeFilesWatchOptions {
  /** undefined while no pool needs one. */
  readonly runtime: () => RuntimeDirectory | undefined;
  readonly daemon: Pick<Daemon, "view" | "report">;
  readonly traffic: Pick<Traffic, "hasProxy" | "proxyOf">;
  readonly placesOf: (pool: number, revision: number) => Pick<WorkerPlaces, "addressOf" | "multiprocDirectory">;
  readonly order: (pool: number, order: Order, reason: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

export class RuntimeFilesWatch implements Disposable {
  readonly #options: RuntimeFilesWatchOptions;
  #timer: Disposable | undefined;
  /** When processes were ordered to be replaced, by worker id and incarnation. */
  readonly #ordered = new Map<string, Instant>();
  /** Processes whose metrics directory was removed, by worker id and incarnation. */
  #withoutMetrics: ReadonlySet<string> = new Set();
  /** The last logged reason why the directories could not be created again. */
  #lastReason: string | undefined;

  constructor(options: RuntimeFilesWatchOptions) {
    this.#options = options;
    this.#arm();
  }

  #arm(): void {
    const { clock } = this.#options;
    const inMs = this.#options.runtime() === undefined ? PAUSE_MS : LOOK_MS;
    this.#timer = clock.wakeAt(after(clock.now(), inMs), () => {
      this.#look();
      this.#arm();
    });
  }

  #look(): void {
    const { daemon, clock, runtime } = this.#options;
    // Without the directory there is no Envoy, no socket and no directory for metrics either.
    if (runtime() === undefined) return;
    const { phase, pools } = daemon.view();
    if (phase !== "booting" && phase !== "running") return;
    const now = clock.now();
    for (const [key, at] of this.#ordered) if (now >= after(at, REPEAT_MS)) this.#ordered.delete(key);
    const lost = this.#restore();
    const workerPools = pools.filter(({ role }) => role === "workers");
    this.#withoutMetrics = new Set(workerPools.flatMap((pool) => this.#findWithoutMetrics(pool, lost)));
    for (const pool of pools) if (pool.role === "proxy") this.#checkProxy(pool);
    for (const pool of workerPools) this.#checkWorkers(pool, pools);
  }

  #findWithoutMetrics({ index, name, workers }: PoolView, lost: readonly string[]): string[] {
    return workers.flatMap((worker) => {
      const directory = this.#options.placesOf(index, worker.revision).multiprocDirectory;
      const isNew = worker.pid !== undefined && directory !== undefined && lost.includes(directory);
      const key = keyOf(name, worker);
      return isNew || this.#withoutMetrics.has(key) ? [key] : [];
    });
  }

  #restore(): readonly string[] {
    const { runtime, log } = this.#options;
    try {
      const lost = runtime()?.restore() ?? [];
      this.#lastReason = undefined;
      for (const path of lost) log.warn(`the directory "${path}" was removed; created it again`, { hint: HINT });
      return lost;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      if (reason !== this.#lastReason)
        log.warn(`the runtime directory was removed and cannot be created again: ${reason}`, { hint: HINT });
      this.#lastReason = reason;
      return [];
    }
  }

  #checkProxy({ index, name, workers }: PoolView): void {
    const { daemon, order, log } = this.#options;
    const [envoy] = workers;
    const lost = this.#lostFilesOf(index);
    if (envoy === undefined || lost === undefined || !this.#isFirst(name, envoy)) return;
    const what = lost === "admin" ? "its admin socket was removed" : "a directory that it watches was removed";
    log.warn(`${what}: replacing Envoy "${name}"`, { hint: HINT });
    const { slot, incarnation } = envoy;
    if (lost === "admin") daemon.report({ pool: index, slot, incarnation }, { kind: "livenessFailed", reason: what });
    else order(index, { kind: "restart", slots: undefined }, what);
  }

  #lostFilesOf(proxy: number | undefined): "admin" | "watched" | undefined {
    const { traffic } = this.#options;
    return proxy === undefined || !traffic.hasProxy(proxy) ? undefined : traffic.proxyOf(proxy).lostFiles;
  }

  #checkWorkers(pool: PoolView, pools: readonly PoolView[]): void {
    const { order, log } = this.#options;
    // An Envoy that lost its files would not learn of successors.
    if (this.#lostFilesOf(pools.find(({ name }) => name === proxyName(pool.name))?.index) !== undefined) return;
    const losses = new Set<Loss>();
    const slots = pool.workers.flatMap((worker) => {
      const loss = this.#lossOf(pool, worker);
      if (loss === undefined || !this.#isFirst(pool.name, worker)) return [];
      losses.add(loss);
      return [worker.slot];
    });
    if (slots.length === 0) return;
    const what = `the ${[...losses].join(" and the ")} of ${slots.map((slot) => workerId(pool.name, slot)).join(", ")} was removed`;
    log.warn(`${what}: replacing the worker${slots.length === 1 ? "" : "s"}`, { hint: HINT });
    order(pool.index, { kind: "restart", slots }, what);
  }

  #lossOf({ index, name }: PoolView, worker: WorkerView): Loss | undefined {
    const { phase, slot, revision } = worker;
    if (phase !== "ready" && phase !== "unready") return undefined;
    if (isSocketMissing(this.#options.placesOf(index, revision).addressOf(slot))) return "socket";
    return this.#withoutMetrics.has(keyOf(name, worker)) ? "metrics directory" : undefined;
  }

  /** Whether this process has not been ordered to be replaced yet. */
  #isFirst(pool: string, worker: WorkerView): boolean {
    const key = keyOf(pool, worker);
    if (this.#ordered.has(key)) return false;
    this.#ordered.set(key, this.#options.clock.now());
    return true;
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
  }
}

function keyOf(pool: string, { slot, incarnation }: WorkerView): string {
  return `${workerId(pool, slot)}/${incarnation}`;
}

function isSocketMissing(address: UpstreamAddress | undefined): boolean {
  return address !== undefined && "path" in address && !existsSync(address.path);
}
