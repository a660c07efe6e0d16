/**
 * Health of workers: starts and stops the checks of each worker with its lifecycle events, and passes their results to the
 * daemon. The probers run probes, the gate combines the results, the watches find foreign listeners and connections that
 * no worker accepts, and the reports describe what a worker waits for.
 */
import { fstatSync } from "node:fs";
import type { Logger } from "../../base/log.ts";
import { formatDuration } from "../../base/units.ts";
import { PROXY_LIVENESS } from "../../config/spec.ts";
import type { LifecycleEvent } from "../../core/event.ts";
import { type Slot, workerId } from "../../core/identity.ts";
import { resultOf } from "../../core/policy/probe.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import { describeMethod, probeStarter } from "../../runtime/probe/probeMethods.ts";
import { type ProbeListener, Prober, type ProbeTarget } from "../../runtime/probe/prober.ts";
import type { Processes } from "../../runtime/process/processes.ts";
import type { Asked, Listening, SocketOwners } from "../../runtime/socket/socketOwners.ts";
import type { SharedSocket, SharedSockets } from "../../runtime/socket/sockets.ts";
import type { PoolRegistry } from "../pools/poolRegistry.ts";
import type { Traffic } from "../pools/traffic.ts";
import type { WorkerDumps } from "../report/workerDumps.ts";
import { AcceptQueueWatch } from "./acceptQueueWatch.ts";
import { ClosedListenerWatch } from "./closedListenerWatch.ts";
import { ListeningWatch } from "./listeningWatch.ts";
import { LivenessVerdicts } from "./livenessVerdicts.ts";
import { OwnershipWatch } from "./ownershipWatch.ts";
import type { ProbeTally } from "./probeTally.ts";
import { healthCheckOf, ownAddresses, servingProbe, workerProbes } from "./probeTargets.ts";
import { ReadinessGate, type WorkerKey } from "./readinessGate.ts";
import { ReadinessReports } from "./readinessReports.ts";

type Spawned = Extract<LifecycleEvent, { kind: "spawned" }>;

export interface HealthOptions {
  readonly registry: PoolRegistry;
  /** Index of a pool of workers by its name; undefined for a proxy. */
  readonly indexOf: (pool: string) => number | undefined;
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
  readonly #registry: PoolRegistry;
  readonly #indexOf: (pool: string) => number | undefined;
  readonly #processes: Processes;
  readonly #daemon: Daemon;
  readonly #traffic: Traffic;
  readonly #dumps: WorkerDumps;
  readonly #sockets: SharedSockets;
  readonly #log: Logger;
  /** Runs the probes of the configuration. */
  readonly #prober: Prober;
  /** Checks whether workers without probes wait on their shared sockets. */
  readonly #observer: Prober;
  /** Checks whether workers without probes listen on sockets of their own. */
  readonly #listening: ListeningWatch;
  /** Notices if these workers close their sockets. */
  readonly #closed: ClosedListenerWatch;
  readonly #reports: ReadinessReports;
  readonly #gate: ReadinessGate;
  readonly #queues: AcceptQueueWatch;
  readonly #ownership: OwnershipWatch;
  /** What is known of each live worker, by pool and slot. */
  readonly #workers = new Map<string, { readonly asked: Asked; readonly target: ProbeTarget }>();
  /** Pools with a worker that was seen waiting on a shared socket. */
  readonly #seenToWait = new Set<string>();
  /** Warnings that were logged. */
  readonly #warned = new Set<string>();

  constructor(options: HealthOptions) {
    const { daemon, traffic, processes, sockets, owners, tally, clock, log } = options;
    this.#registry = options.registry;
    this.#indexOf = options.indexOf;
    this.#processes = processes;
    this.#daemon = daemon;
    this.#traffic = traffic;
    this.#dumps = options.dumps;
    this.#sockets = sockets;
    this.#log = log;
    const report = (...args: readonly [...WorkerKey, reason: string]) => daemon.waiting(...args);
    this.#reports = new ReadinessReports({ clock, owners, report });
    this.#gate = new ReadinessGate({
      becameReady: (...worker) => this.#answered(worker),
      becameUnready: (pool, slot, incarnation, reason) => {
        this.#waits([pool, slot, incarnation], reason);
        traffic.becameUnready(pool, slot, incarnation, reason);
      },
    });
    const start = probeStarter(processes.helpers, owners, (target, reason) => this.#warnOfUnknownOwner(target, reason));
    const common = { clock, random: Math.random, log, start };
    const listener = this.#probeListener(tally);
    this.#prober = new Prober({ ...common, listener });
    this.#observer = new Prober({ ...common, listener: { ...listener, ...this.#observation() } });
    this.#listening = new ListeningWatch({ clock, owners, listens: (...found) => this.#listens(...found) });
    this.#closed = new ClosedListenerWatch({ clock, owners, closed: (...found) => this.#hasClosed(...found) });
    this.#queues = new AcceptQueueWatch({
      clock,
      sockets: () => sockets.list(),
      wasSeenToWait: (pool) => this.#seenToWait.has(pool),
      listener: {
        stalled: (pool, reason) => this.#withIndex(pool, (index) => this.#gate.stall(index, reason)),
        resumed: (pool) => this.#withIndex(pool, (index) => this.#gate.resume(index)),
      },
    });
    this.#ownership = new OwnershipWatch({ clock, owners, judged: (worker, whyNot) => this.#judged(worker, whyNot) });
  }

  /** Results of the probes of the configuration. */
  #probeListener(tally: ProbeTally): ProbeListener {
    const verdicts = new LivenessVerdicts(
      (...worker) => this.#diagnose(...worker),
      (...verdict) => this.#daemon.livenessFailed(...verdict),
    );
    return {
      becameReady: (...worker) => {
        if (this.#isObserved(worker[0])) return;
        this.#expose(worker);
        this.#gate.withdraw(worker, "readiness");
      },
      becameUnready: (pool, slot, incarnation, reason) =>
        this.#gate.object([pool, slot, incarnation], "readiness", reason),
      startupFailed: (...verdict) => void this.#startupFailed(...verdict),
      livenessFailed: (...verdict) => void verdicts.failed(...verdict),
      becameAlive: (...worker) => {
        verdicts.answered(...worker);
        this.#daemon.becameAlive(...worker);
      },
      attempted: ({ pool, slot, incarnation }, purpose, outcome) => {
        tally.count(this.#daemon.specOf(pool).name, purpose, resultOf(outcome));
        if (purpose !== "liveness" && outcome.kind !== "success")
          this.#reports.note([pool, slot, incarnation], outcome.reason);
      },
    };
  }

  /** Overrides for workers that are observed waiting on a shared socket. */
  #observation(): Pick<ProbeListener, "becameReady" | "attempted"> {
    return {
      becameReady: (...worker) => this.#gate.withdraw(worker, "readiness"),
      attempted: ({ pool, slot, incarnation }, _, outcome) => {
        if (outcome.kind !== "success")
          this.#reports.note([pool, slot, incarnation], this.#unseen(pool, outcome.reason));
      },
    };
  }

  #listens(worker: WorkerKey, asked: Asked, found: Listening): void {
    this.#closed.watch(worker, asked, found);
    this.#gate.withdraw(worker, "readiness");
    this.#gate.withdraw(worker, "closed");
  }

  #hasClosed(worker: WorkerKey, asked: Asked, addresses: readonly string[]): void {
    const reason = `it listened on ${addresses.join(", ")}, and none of its processes listens any more`;
    this.#gate.object(worker, "closed", reason);
    this.#listening.watch(worker, asked);
  }

  #judged(worker: WorkerKey, whyNot: string | undefined): void {
    this.#expose(worker);
    if (whyNot === undefined) {
      this.#gate.withdraw(worker, "owner");
      return;
    }
    this.#gate.object(worker, "owner", whyNot);
    this.#reports.note(worker, whyNot);
  }

  #withIndex(pool: string, act: (index: number) => void): void {
    const index = this.#indexOf(pool);
    if (index !== undefined) act(index);
  }

  /** Call before the first worker is spawned. */
  begin(): void {
    this.#listening.begin();
  }

  /** What an unready worker waits for, and what the last attempt returned; undefined if it waits for nothing. */
  waitOf(pool: number, slot: Slot, incarnation: number): string | undefined {
    return this.#reports.textOf(pool, slot, incarnation);
  }

  /** Call for every lifecycle event: they start and stop the checks of a worker. */
  handle(event: LifecycleEvent): void {
    if (!("slot" in event)) return;
    switch (event.kind) {
      case "spawned":
        this.#begin(event);
        return;
      case "ready":
        this.#becameReady(event);
        return;
      case "draining":
      case "stopping":
      case "exited": {
        const index = this.#indexOf(event.pool) ?? this.#traffic.adminOf(event.pool)?.pool;
        if (index !== undefined) this.#end([index, event.slot, event.incarnation]);
        return;
      }
      default:
        return;
    }
  }

  #begin({ pool: name, slot, incarnation, pid, revision }: Spawned): void {
    const index = this.#indexOf(name);
    if (index === undefined) return;
    const worker: WorkerKey = [index, slot, incarnation];
    const pool = this.#registry.partsOf(index, revision);
    const { config, places } = pool;
    const shared = this.#sockets.list().filter((socket) => socket.pool === name);
    const asked = this.#askedOf(index, pid, config.server === undefined, shared);
    const verify = () => (this.#gate.isReady(worker) ? [] : ownAddresses(pool, slot));
    const probes = workerProbes(pool, slot, verify, () => healthCheckOf(this.#registry.inForceOf(index)));
    const { readiness } = probes;
    const target: ProbeTarget = {
      pool: index,
      slot,
      incarnation,
      revision,
      pid,
      asked,
      address: places.addressOf(slot),
      ...probes,
      notifyChannel: readiness === "notify" ? this.#processes.notifyChannelOf(pid) : undefined,
    };
    this.#workers.set(`${index}/${slot}`, { asked, target });
    this.#gate.begin(worker);
    const reason = this.#firstReason(target, shared);
    const way = this.#isObserved(index) ? (shared.length > 0 ? "observed" : "survival") : "probed";
    this.#reports.begin(worker, asked, reason, way);
    if (shared.length > 0) this.#queues.start();
    if (config.server !== undefined || config.probes !== undefined) this.#prober.watch(target);
    if (!this.#isObserved(index)) return;
    if (shared.length === 0) {
      this.#listening.watch(worker, asked);
      return;
    }
    const startup = servingProbe(shared.map(({ name: socket, address }) => ({ name: socket, address })));
    this.#observer.watch({ ...target, startup, readiness: undefined, liveness: undefined, notifyChannel: undefined });
  }

  #end(worker: WorkerKey): void {
    const [pool, slot, incarnation] = worker;
    this.#prober.forget(pool, slot, incarnation);
    this.#observer.forget(pool, slot, incarnation);
    this.#listening.forget(worker);
    this.#closed.forget(worker);
    this.#gate.forget(worker);
    this.#reports.end(worker);
    this.#ownership.forget(worker);
    if (this.#find(worker) !== undefined) this.#workers.delete(`${pool}/${slot}`);
  }

  #askedOf(index: number, leader: number, sharesPorts: boolean, sockets: readonly SharedSocket[]): Asked {
    const siblings = () => this.#daemon.view().pools.find((pool) => pool.index === index)?.workers ?? [];
    return {
      leader,
      ...(sharesPorts ? { siblings: () => siblings().flatMap(({ pid }) => pid ?? []) } : {}),
      ...(sockets.length > 0 ? { shared: new Set(sockets.map(({ fd }) => String(fstatSync(fd).ino))) } : {}),
    };
  }

  /** Lets the proxy connect to the worker's socket, if the worker owns it. */
  #expose(worker: WorkerKey): void {
    const found = this.#find(worker);
    if (found === undefined) return;
    const [pool, slot] = worker;
    const whyNot = this.#registry.partsOf(pool, found.target.revision).places.expose(slot);
    if (whyNot === undefined) {
      this.#gate.withdraw(worker, "socket");
      return;
    }
    this.#gate.object(worker, "socket", whyNot);
    this.#reports.note(worker, whyNot);
  }

  #find([pool, slot, incarnation]: WorkerKey) {
    const found = this.#workers.get(`${pool}/${slot}`);
    return found?.target.incarnation === incarnation ? found : undefined;
  }

  /** Whether the pool has no probes that decide about readiness. */
  #isObserved(pool: number): boolean {
    return this.#daemon.specOf(pool).readiness.kind === "observed";
  }

  /** The worker itself is ready; behind a proxy, the proxy must add its endpoint before it counts as ready. */
  #answered(worker: WorkerKey): void {
    const isObserved = this.#isObserved(worker[0]);
    this.#reports.note(
      worker,
      isObserved
        ? "it serves, and must keep serving for rolling.min_ready"
        : "it answers, but the proxy does not route to it yet",
    );
    this.#traffic.becameReady(...worker);
  }

  #becameReady(event: Extract<LifecycleEvent, { kind: "ready" }>): void {
    const { pool: name, slot, incarnation, evidence } = event;
    const index = this.#indexOf(name);
    if (index === undefined) {
      this.#watchProxy(event);
      return;
    }
    const worker: WorkerKey = [index, slot, incarnation];
    const found = this.#find(worker);
    this.#observer.forget(...worker);
    this.#reports.end(worker);
    if (found !== undefined) {
      const pool = this.#registry.partsOf(index, found.target.revision);
      this.#ownership.watch(worker, found.asked, ownAddresses(pool, slot));
    }
    const isShared = found?.asked.shared !== undefined;
    if (evidence === "listening" && isShared) this.#seenToWait.add(name);
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

  /** A worker that was ready became unready. */
  #waits(worker: WorkerKey, reason: string): void {
    const found = this.#find(worker);
    if (found === undefined) return;
    if (this.#reports.isWaiting(worker)) this.#reports.note(worker, reason);
    else this.#reports.begin(worker, found.asked, reason, this.#isObserved(worker[0]) ? "observed" : "probed");
  }

  async #startupFailed(...[pool, slot, incarnation, reason]: readonly [...WorkerKey, reason: string]): Promise<void> {
    const found = this.#find([pool, slot, incarnation]);
    const explained = found === undefined ? reason : await this.#reports.explain(found.asked, reason);
    this.#daemon.startupFailed(pool, slot, incarnation, explained);
  }

  #firstReason(target: ProbeTarget, sockets: readonly SharedSocket[]): string {
    const { pool, startup, readiness } = target;
    if (this.#isObserved(pool)) {
      const what = sockets.length > 0 ? "waits on a socket of the pool" : "listens";
      return this.#unseen(pool, `none of its processes ${what} yet`);
    }
    const probe = startup ?? readiness;
    if (probe === "notify") return "it has not reported ready through MONOCEROS_NOTIFY_FD yet";
    const what = probe && describeMethod(probe.method, target);
    return what === undefined ? "it has not answered yet" : `${what}: no answer yet`;
  }

  /** What a worker waits for while it is not seen serving. */
  #unseen(pool: number, reason: string): string {
    const { readiness } = this.#daemon.specOf(pool);
    if (readiness.kind !== "observed") return reason;
    return `${reason}, and it has run for less than ${formatDuration(readiness.surviveMs)}`;
  }

  #warnOfUnknownOwner({ pool, slot }: ProbeTarget, reason: "refused" | "unlisted"): void {
    const { name } = this.#daemon.specOf(pool);
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
    this.#log.warn(message, { hint });
  }

  /** Envoy reports when it serves; from then on its liveness is probed. */
  #watchProxy({ pool, slot, incarnation }: Extract<LifecycleEvent, { kind: "ready" }>): void {
    const proxy = this.#traffic.adminOf(pool);
    const pid = proxy && this.#pidOf(proxy.pool, slot, incarnation);
    if (proxy === undefined || pid === undefined) return;
    const { admin } = proxy;
    this.#prober.watch({
      pool: proxy.pool,
      slot,
      incarnation,
      revision: 1,
      pid,
      asked: { leader: pid },
      address: "port" in admin ? admin : { path: admin.socketPath },
      startup: undefined,
      readiness: undefined,
      liveness: { method: { kind: "http", path: "/listeners", port: undefined }, policy: PROXY_LIVENESS },
      notifyChannel: undefined,
    });
  }

  #pidOf(pool: number, slot: Slot, incarnation: number): number | undefined {
    return this.#daemon
      .view()
      .pools.find(({ index }) => index === pool)
      ?.workers.find((worker) => worker.slot === slot && worker.incarnation === incarnation)?.pid;
  }

  /** What the worker is doing, taken before it is stopped; undefined if it has exited. */
  async #diagnose(pool: number, slot: Slot, incarnation: number): Promise<string | undefined> {
    const pid = this.#pidOf(pool, slot, incarnation);
    return pid === undefined ? undefined : this.#dumps.describe(pid);
  }

  [Symbol.dispose](): void {
    this.#prober.close();
    this.#observer.close();
    this.#reports[Symbol.dispose]();
    this.#listening[Symbol.dispose]();
    this.#closed[Symbol.dispose]();
    this.#queues[Symbol.dispose]();
    this.#ownership[Symbol.dispose]();
  }
}
