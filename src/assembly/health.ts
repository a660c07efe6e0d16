/**
 * Who is probed and how: from the configuration of a pool and the birth of a worker to a target of the prober, and from
 * what the prober finds to events of the daemon.
 */
import type { Logger } from "../base/log.ts";
import type { PoolConfig, ProbeConfig } from "../config/config.ts";
import { PROXY_LIVENESS, policyOf } from "../config/spec.ts";
import { expandTemplate } from "../config/template.ts";
import type { LifecycleEvent } from "../core/event.ts";
import type { Slot } from "../core/identity.ts";
import type { ProbePolicy } from "../core/probe.ts";
import type { Clock } from "../runtime/clock.ts";
import type { Daemon } from "../runtime/daemon.ts";
import { probeStarter } from "../runtime/probeMethods.ts";
import { type Probe, type ProbeMethod, Prober } from "../runtime/prober.ts";
import type { Processes } from "../runtime/processes.ts";
import type { Inspection } from "./inspection.ts";
import { LivenessVerdicts } from "./livenessVerdicts.ts";
import type { PoolRegistry, PoolRevision } from "./poolRegistry.ts";
import type { ProbeTally } from "./probeTally.ts";
import type { Traffic } from "./traffic.ts";

/**
 * Behind a proxy each worker is asked whether it serves, also where nobody has said how: often at first, because most
 * are quick, and without a verdict that it failed: the time it has is the pool's.
 */
const FIRST_CONNECTION: ProbePolicy = {
  initialDelayMs: 0,
  firstPeriodMs: 20,
  periodMs: 250,
  timeoutMs: 5000,
  failureThreshold: Number.POSITIVE_INFINITY,
  successThreshold: 1,
};

export class Health implements Disposable {
  readonly #registry: PoolRegistry;
  readonly #indexOf: (pool: string) => number | undefined;
  readonly #processes: Processes;
  readonly #pidOf: (pool: number, slot: Slot, incarnation: number) => number | undefined;
  readonly #traffic: Traffic;
  readonly #inspection: Inspection;
  readonly #prober: Prober;

  constructor(options: {
    registry: PoolRegistry;
    /** Index of a pool of workers by its name; undefined for a proxy. */
    indexOf: (pool: string) => number | undefined;
    processes: Processes;
    daemon: Daemon;
    traffic: Traffic;
    inspection: Inspection;
    clock: Clock;
    log: Logger;
    tally: ProbeTally;
  }) {
    const { daemon, traffic, processes, tally } = options;
    this.#pidOf = (pool, slot, incarnation) =>
      daemon
        .view()
        .pools.find(({ index }) => index === pool)
        ?.workers.find((worker) => worker.slot === slot && worker.incarnation === incarnation)?.pid;
    this.#registry = options.registry;
    this.#indexOf = options.indexOf;
    this.#processes = processes;
    this.#traffic = traffic;
    this.#inspection = options.inspection;
    const verdicts = new LivenessVerdicts(
      (...worker) => this.#diagnose(...worker),
      (...verdict) => daemon.livenessFailed(...verdict),
    );
    this.#prober = new Prober({
      clock: options.clock,
      random: Math.random,
      log: options.log,
      start: probeStarter(processes),
      listener: {
        becameReady: (...worker) => traffic.becameReady(...worker),
        becameUnready: (...worker) => traffic.becameUnready(...worker),
        startupFailed: (...worker) => daemon.startupFailed(...worker),
        livenessFailed: (...verdict) => void verdicts.failed(...verdict),
        becameAlive: (...worker) => {
          verdicts.answered(...worker);
          daemon.becameAlive(...worker);
        },
        attempted: (pool, purpose, result) => tally.count(daemon.specOf(pool).name, purpose, result),
      },
    });
  }

  /** To be told of every lifecycle event: probing begins and ends by them. */
  handle(event: LifecycleEvent): void {
    if (!("slot" in event)) return;
    const { slot, incarnation } = event;
    switch (event.kind) {
      case "ready":
        this.#watchProxy(event);
        return;
      case "spawned": {
        const index = this.#indexOf(event.pool);
        if (index === undefined) return;
        const pool = this.#registry.partsOf(index, event.revision);
        if (!isProbed(pool)) return;
        const { config, places } = pool;
        const { startup, readiness, liveness } = config.probes ?? {};
        const isNotified = readiness?.notify === true;
        this.#prober.watch({
          pool: index,
          slot,
          incarnation,
          revision: event.revision,
          pid: event.pid,
          address: places.addressOf(slot),
          startup: startup === undefined ? firstConnection(config) : probeOf(startup, pool, slot),
          readiness: readiness === undefined ? undefined : isNotified ? "notify" : probeOf(readiness, pool, slot),
          liveness: liveness === undefined ? undefined : probeOf(liveness, pool, slot),
          notifyChannel: isNotified ? this.#processes.notifyChannelOf(event.pid) : undefined,
        });
        return;
      }
      case "draining":
      case "stopping":
      case "exited": {
        const index = this.#indexOf(event.pool) ?? this.#traffic.adminOf(event.pool)?.pool;
        if (index !== undefined) this.#prober.forget(index, slot, incarnation);
        return;
      }
      default:
        return;
    }
  }

  /** Envoy tells its control when it serves; from then on it is asked whether it still works. */
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
      address: "port" in admin ? admin : { path: admin.socketPath },
      startup: undefined,
      readiness: undefined,
      liveness: { method: { kind: "http", path: "/listeners", port: undefined }, policy: PROXY_LIVENESS },
      notifyChannel: undefined,
    });
  }

  /** What the worker is doing, before anything is done to it; undefined where it is gone. */
  async #diagnose(pool: number, slot: Slot, incarnation: number): Promise<string | undefined> {
    const pid = this.#pidOf(pool, slot, incarnation);
    return pid === undefined ? undefined : this.#inspection.describe(pid);
  }

  [Symbol.dispose](): void {
    this.#prober.close();
  }
}

function isProbed({ config }: PoolRevision): boolean {
  return config.server !== undefined || config.probes !== undefined;
}

/** Asked unless a readiness probe asks the same and more. */
function firstConnection({ server, probes }: PoolConfig): Probe | undefined {
  if (server === undefined || (probes?.readiness !== undefined && asksServer(probes.readiness))) return undefined;
  const path = server.protocol === "http" ? server.healthCheckPath : undefined;
  const method: ProbeMethod =
    path === undefined
      ? { kind: "tcp", port: undefined }
      : { kind: "http", path, port: undefined, headers: { Host: server.healthCheckHost } };
  return { method, policy: FIRST_CONNECTION };
}

/** Whether success means that the server answers; a command, or what answers on another port, may succeed before. */
function asksServer({ http, tcp, grpc, notify }: ProbeConfig): boolean {
  const method = http ?? tcp ?? grpc;
  return notify === true || (method !== undefined && method.port === undefined);
}

function probeOf(probe: ProbeConfig, pool: PoolRevision, slot: Slot): Probe {
  return { method: methodOf(probe, pool, slot), policy: policyOf(probe) };
}

function methodOf(
  { http, tcp, grpc, exec }: ProbeConfig,
  { config, plan, places }: PoolRevision,
  slot: Slot,
): ProbeMethod {
  if (http !== undefined) return { kind: "http", path: http.path, port: http.port, headers: http.headers };
  if (grpc !== undefined) return { kind: "grpc", service: grpc.service, port: grpc.port };
  if (exec !== undefined) {
    const argv = exec.map((text) => expandTemplate(text, places.valuesOf(slot)));
    const file = plan.commands.get(exec[0] ?? "");
    if (file === undefined) throw new RangeError(`probe command of pool "${config.name}" was not looked for`);
    return { kind: "exec", file, argv };
  }
  return { kind: "tcp", port: tcp?.port };
}
