/**
 * Starts and stops the checks of each worker with its lifecycle events. The prober and the observer find out whether it
 * serves, two watches find foreign listeners and connections that no worker accepts, the gate combines their objections,
 * and the reports state what an unready worker waits for.
 */
import { fstatSync } from "node:fs";
import type { Logger } from "../../base/log.ts";
import { formatDuration } from "../../base/units.ts";
import type { LifecycleEvent } from "../../core/event.ts";
import { type PoolIndex, slotKey, type WorkerRef, workerId } from "../../core/identity.ts";
import { readinessChannelOf } from "../../runtime/channel/workerChannels.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { probeStarter } from "../../runtime/probe/probeMethods.ts";
import { type ProbeListener, Prober, type ProbeTarget } from "../../runtime/probe/prober.ts";
import type { Processes } from "../../runtime/process/processes.ts";
import type { ExpectedOwner, SocketOwners } from "../../runtime/socket/socketOwners.ts";
import type { SharedSockets } from "../../runtime/socket/sockets.ts";
import type { PoolRegistry } from "../pools/poolRegistry.ts";
import type { Traffic } from "../pools/traffic.ts";
import type { ProbeTally } from "../report/tallies.ts";
import type { WorkerDumps } from "../report/workerDumps.ts";
import { AcceptQueueWatch } from "./acceptQueueWatch.ts";
import { OwnershipWatch } from "./ownershipWatch.ts";
import { probeResults } from "./probeResults.ts";
import { healthCheckOf, ownAddresses, proxyTarget, workerProbes } from "./probeTargets.ts";
import { type ObjectionSource, ReadinessGate } from "./readinessGate.ts";
import { ReadinessReports } from "./readinessReports.ts";
import { ServingObserver } from "./servingObserver.ts";
import { firstReason, passedReason } from "./waitReasons.ts";

type EventOf<Kind extends LifecycleEvent["kind"]> = Extract<LifecycleEvent, { kind: Kind }>;

export interface HealthOptions {
  readonly registry: PoolRegistry;
  /** Index of a pool of workers by its name. */
  readonly indexOf: (pool: string) => PoolIndex | undefined;
  readonly processes: Processes;
  readonly daemon: Daemon;
  readonly traffic: Traffic;
  readonly dumps: WorkerDumps;
  readonly sockets: SharedSockets;
  readonly owners: SocketOwners;
  readonly clock: Clock;
  readonly log: Logger;
  readonly tally: ProbeTally;
}

export class Health implements Disposable {
  readonly #options: HealthOptions;
  readonly #reports: ReadinessReports;
  readonly #gate: ReadinessGate;
  /** Runs the probes of the configuration. */
  readonly #prober: Prober;
  readonly #observer: ServingObserver;
  readonly #queues: AcceptQueueWatch;
  readonly #ownership: OwnershipWatch;
  /** Live workers and proxies, by pool and slot. */
  readonly #targets = new Map<string, ProbeTarget>();
  /** Warnings that were logged. */
  readonly #warned = new Set<string>();

  constructor(options: HealthOptions) {
    this.#options = options;
    const { daemon, traffic, processes, sockets, owners, clock, log, tally, dumps, indexOf } = options;
    const reports = new ReadinessReports({
      clock,
      owners,
      report: (worker, reason) => daemon.report(worker, { kind: "waiting", reason }),
    });
    const gate = new ReadinessGate({
      becameReady: (worker) => {
        reports.note(worker, passedReason(daemon.specOf(worker.pool).readiness));
        traffic.becameReady(worker);
      },
      becameUnready: (worker, reason) => {
        const target = this.#find(worker);
        if (target !== undefined) reports.begin(target, reason, this.#isObserved(worker.pool) ? "observed" : "probed");
        daemon.report(worker, { kind: "becameUnready", reason });
      },
    });
    this.#reports = reports;
    this.#gate = gate;
    const start = probeStarter(processes.helpers, owners, (target, reason) => this.#warnOfUnknownOwner(target, reason));
    const newProber = (listener: ProbeListener) => new Prober({ clock, random: Math.random, log, start, listener });
    const passed = (worker: WorkerRef) => this.#expose(worker);
    const diagnose = async (worker: WorkerRef) => {
      const target = this.#find(worker);
      return target && dumps.describe(target.pid);
    };
    this.#prober = newProber(probeResults({ daemon, gate, reports, tally, passed, diagnose }));
    this.#observer = new ServingObserver({ clock, owners, daemon, gate, reports, newProber });
    this.#queues = new AcceptQueueWatch({
      clock,
      sockets: () => sockets.list(),
      changed: (pool, stalled) => {
        const index = indexOf(pool);
        if (index !== undefined) gate.setStalled(index, stalled);
      },
    });
    this.#ownership = new OwnershipWatch({
      clock,
      owners,
      judged: (worker, whyNot) => {
        this.#expose(worker);
        this.#decide(worker, "owner", whyNot);
      },
    });
  }

  /** Call before the first worker is spawned. */
  begin(): void {
    this.#observer.begin();
  }

  /** What an unready worker waits for, and what the last attempt returned; undefined if it waits for nothing. */
  waitOf(worker: WorkerRef): string | undefined {
    return this.#reports.textOf(worker);
  }

  /** What the worker last reported about its state (STATUS of sd_notify); undefined if nothing. */
  statusOf(worker: WorkerRef): string | undefined {
    return this.#find(worker)?.notifySocket?.status;
  }

  /** Call for every lifecycle event: they start and stop the checks of a worker. */
  handle(event: LifecycleEvent, worker?: WorkerRef): void {
    if (worker === undefined) return;
    const admin = this.#options.traffic.adminOf(worker.pool);
    switch (event.kind) {
      case "spawned":
        if (admin === undefined) this.#begin(worker, event);
        else this.#targets.set(slotKey(worker), proxyTarget(worker, event, admin));
        return;
      case "ready": {
        const target = this.#find(worker);
        if (admin === undefined) this.#becameReady(worker, target, event);
        else if (target !== undefined) this.#prober.watch(target);
        return;
      }
      case "draining":
      case "stopping":
      case "exited":
        this.#end(worker);
        return;
      default:
        return;
    }
  }

  #begin(worker: WorkerRef, { pool: name, pid, revision }: EventOf<"spawned">): void {
    const { registry, sockets, processes, daemon } = this.#options;
    const { pool: index, slot } = worker;
    const pool = registry.partsOf(index, revision);
    const { type, server, probes } = pool.config;
    // A run is never ready, so there is nothing to observe.
    if (type === "oneshot") return;
    const shared = sockets.list().filter((socket) => socket.pool === name);
    const verify = () => (this.#gate.isReady(worker) ? [] : ownAddresses(pool, slot));
    const owner: ExpectedOwner = {
      leader: pid,
      ...(server === undefined ? { siblings: () => this.#leadersOf(index) } : {}),
      ...(shared.length > 0 ? { shared: new Set(shared.map(({ fd }) => String(fstatSync(fd).ino))) } : {}),
    };
    const channels = processes.channelsOf(pid);
    const target: ProbeTarget = {
      ...worker,
      revision,
      pid,
      owner,
      address: pool.places.addressOf(slot),
      ...workerProbes(pool, slot, verify, () => healthCheckOf(registry.inForceOf(index))),
      readinessChannel: channels && readinessChannelOf(channels, pid),
      notifySocket: channels?.sockets?.notify,
    };
    this.#targets.set(slotKey(worker), target);
    this.#gate.begin(worker);
    const isObserved = this.#isObserved(index);
    const way = isObserved ? (shared.length > 0 ? "observed" : "survival") : "probed";
    this.#reports.begin(target, firstReason(target, daemon.specOf(index).readiness), way);
    if (shared.length > 0) this.#queues.start();
    target.notifySocket?.listen({
      stopping: () => this.#decide(worker, "stopping", "it has reported that it is stopping"),
      extended: (ms) => daemon.report(worker, { kind: "extended", ms }),
    });
    if (server !== undefined || probes !== undefined) this.#prober.watch(target);
    if (isObserved) this.#observer.watch(target, shared);
  }

  #leadersOf(index: PoolIndex): readonly number[] {
    const workers = this.#options.daemon.view().pools.find((pool) => pool.index === index)?.workers ?? [];
    return workers.flatMap(({ pid }) => pid ?? []);
  }

  #becameReady(worker: WorkerRef, target: ProbeTarget | undefined, event: EventOf<"ready">): void {
    const { pool: name, slot, evidence } = event;
    this.#observer.becameReady(worker);
    this.#reports.end(worker);
    if (target !== undefined) {
      const pool = this.#options.registry.partsOf(target.pool, target.revision);
      this.#ownership.watch(worker, target.owner, ownAddresses(pool, slot));
    }
    const isShared = target?.owner.shared !== undefined;
    if (evidence === "listening" && isShared) this.#queues.seenToWait(name);
    if (evidence !== "none") {
      this.#gate.repeat(worker);
      return;
    }
    if (isShared)
      this.#warnOnce(
        `unseen ${name}`,
        `worker "${workerId(name, slot)}" counts as ready after ${formatDuration(event.afterMs)}, although none of its processes was seen waiting on a socket of the pool`,
        "Behind a wrapper that does not exec, a program does not find the socket by LISTEN_PID: pass {{.Fd}} as an argument. If the program uses io_uring, set a readiness probe.",
      );
    this.#gate.accept(worker);
  }

  #end(worker: WorkerRef): void {
    this.#prober.forget(worker);
    this.#observer.forget(worker);
    this.#ownership.forget(worker);
    this.#gate.forget(worker);
    this.#reports.end(worker);
    if (this.#find(worker) !== undefined) this.#targets.delete(slotKey(worker));
  }

  /** Lets the proxy connect to the worker's socket, if the worker owns it. */
  #expose(worker: WorkerRef): void {
    const target = this.#find(worker);
    if (target === undefined) return;
    const { places } = this.#options.registry.partsOf(worker.pool, target.revision);
    this.#decide(worker, "socket", places.expose(worker.slot));
  }

  /** `whyNot` is the objection of this source to the worker's readiness; undefined if it has none. */
  #decide(worker: WorkerRef, source: ObjectionSource, whyNot: string | undefined): void {
    if (whyNot === undefined) {
      this.#gate.withdraw(worker, source);
      return;
    }
    this.#gate.object(worker, source, whyNot);
    this.#reports.note(worker, whyNot);
  }

  #find(worker: WorkerRef): ProbeTarget | undefined {
    const target = this.#targets.get(slotKey(worker));
    return target?.incarnation === worker.incarnation ? target : undefined;
  }

  /** Whether the pool has no probes that decide about readiness. */
  #isObserved(pool: PoolIndex): boolean {
    return this.#options.daemon.specOf(pool).readiness.kind === "observed";
  }

  #warnOfUnknownOwner({ pool, slot }: ProbeTarget, reason: "refused" | "unlisted"): void {
    const { name } = this.#options.daemon.specOf(pool);
    const why =
      reason === "refused"
        ? "the controller may not inspect its processes (needs CAP_SYS_PTRACE)"
        : "the socket is not in this network namespace";
    this.#warnOnce(
      `owner ${name}`,
      `cannot verify that worker "${workerId(name, slot)}" itself listens at its address: ${why}`,
      "Its address was free before it started; from then on only its probes decide.",
    );
  }

  #warnOnce(key: string, message: string, hint: string): void {
    if (this.#warned.has(key)) return;
    this.#warned.add(key);
    this.#options.log.warn(message, { hint });
  }

  [Symbol.dispose](): void {
    for (const part of [this.#observer, this.#reports, this.#queues, this.#ownership]) part[Symbol.dispose]();
    this.#prober.close();
  }
}
