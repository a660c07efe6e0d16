/** Turns the configuration of a pool into the probes of one of its workers, or of its proxy. */
import type { LaunchedPool, PoolConfig, ProbeConfig } from "../../config/config.ts";
import { networkKeys } from "../../config/keys/probes.ts";
import { PROXY_LIVENESS, policyOf } from "../../config/spec.ts";
import { renderTemplate, templateText } from "../../config/template.ts";
import type { Slot, WorkerRef } from "../../core/identity.ts";
import type { ProbePolicy } from "../../core/policy/probe.ts";
import type { AdminAddress } from "../../envoy/resources/settings.ts";
import type { ProbeAddress } from "../../runtime/probe/attempt.ts";
import { type NetworkProbe, networkProbe } from "../../runtime/probe/networkMethods.ts";
import type { Probe, ProbeMethod, ProbeTarget } from "../../runtime/probe/prober.ts";
import type { PoolRevision } from "../pools/poolRegistry.ts";

/**
 * Behind a proxy each worker is probed even if no probe is configured, and without probes it is observed until it is seen
 * serving: often at first, because most start quickly, and without a failure threshold, because the pool bounds the time
 * of a start.
 */
const FIRST_CONNECTION: ProbePolicy = {
  initialDelayMs: 0,
  firstPeriodMs: 20,
  periodMs: 250,
  timeoutMs: 5000,
  failureThreshold: Number.POSITIVE_INFINITY,
  successThreshold: 1,
};

/** How to check whether the server of a worker serves; without a path, by a connection. */
export interface HealthCheck {
  readonly path: string | undefined;
  readonly host: string;
}

/** The keys of a configuration that describe this check. */
export function healthCheckOf({ server }: PoolConfig): HealthCheck {
  return { path: server?.healthCheckPath, host: server?.healthCheckHost ?? "localhost" };
}

/**
 * The probes of a slot's worker. `verify` returns the addresses at which only its own processes may answer now,
 * `healthCheck` the health check of the configuration in force.
 */
export function workerProbes(
  pool: PoolRevision,
  slot: Slot,
  verify: () => readonly ProbeAddress[],
  healthCheck: () => HealthCheck,
): Pick<ProbeTarget, "startup" | "readiness" | "liveness"> {
  const { startup, readiness, liveness } = pool.config.probes ?? {};
  const ready = readiness && (isReported(readiness) ? "notify" : { ...probeOf(readiness, pool, slot), verify });
  return {
    startup:
      startup === undefined
        ? firstConnection(pool.config, verify, healthCheck)
        : { ...probeOf(startup, pool, slot), verify },
    readiness: ready,
    liveness: liveness && probeOf(liveness, pool, slot),
  };
}

/** How an Envoy is probed. It reports by itself when it serves; from then on its liveness is probed. */
export function proxyTarget(
  worker: WorkerRef,
  { pid, revision }: Pick<ProbeTarget, "pid" | "revision">,
  admin: AdminAddress,
): ProbeTarget {
  return {
    ...worker,
    revision,
    pid,
    owner: { leader: pid },
    address: "port" in admin ? admin : { path: admin.socketPath },
    startup: undefined,
    readiness: undefined,
    liveness: { method: { kind: "http", path: "/listeners", port: undefined }, policy: PROXY_LIVENESS },
    readinessChannel: undefined,
  };
}

/** How a worker with shared sockets and without probes is observed. */
export function servingProbe(sockets: readonly { readonly name: string; readonly address: string }[]): Probe {
  return { method: { kind: "serving", sockets }, policy: FIRST_CONNECTION };
}

/** Addresses at which only the worker may listen: its own, and those of its startup and readiness probes. */
export function ownAddresses({ config, places }: PoolRevision, slot: Slot): readonly ProbeAddress[] {
  const own = config.server === undefined ? undefined : places.addressOf(slot);
  const { startup, readiness } = config.probes ?? {};
  const ports = [startup, readiness].flatMap((probe) => (probe && networkProbeOf(probe))?.port ?? []);
  return [...(own === undefined ? [] : [own]), ...[...new Set(ports)].map((port) => ({ port }))];
}

/** Runs unless a readiness probe covers it. A reload may change it while the worker starts. */
function firstConnection(
  { server, probes }: LaunchedPool,
  verify: () => readonly ProbeAddress[],
  healthCheck: () => HealthCheck,
): Probe | undefined {
  if (server === undefined || (probes?.readiness !== undefined && asksServer(probes.readiness))) return undefined;
  return {
    get method(): ProbeMethod {
      const { path, host } = healthCheck();
      return server.protocol !== "http" || path === undefined
        ? { kind: "tcp", port: undefined }
        : { kind: "http", path, port: undefined, headers: { Host: host } };
    },
    policy: FIRST_CONNECTION,
    verify,
  };
}

/** Whether the worker reports by itself that it is ready. */
function isReported({ notify, sdNotify, einhorn }: ProbeConfig): boolean {
  return notify === true || sdNotify === true || einhorn === true;
}

/** Whether success means that the server answers; a command, or a probe of another port, may succeed earlier. */
function asksServer(probe: ProbeConfig): boolean {
  const network = networkProbeOf(probe);
  return isReported(probe) || (network !== undefined && network.port === undefined);
}

function networkProbeOf(probe: ProbeConfig): NetworkProbe | undefined {
  return networkProbe(networkKeys, probe);
}

function probeOf(probe: ProbeConfig, pool: PoolRevision, slot: Slot): Probe {
  return { method: methodOf(probe, pool, slot), policy: policyOf(probe) };
}

function methodOf(probe: ProbeConfig, { config, plan, places }: PoolRevision, slot: Slot): ProbeMethod {
  const network = networkProbeOf(probe);
  if (network !== undefined) return network;
  if (probe.sdNotify === true) return { kind: "watchdog", periodMs: probe.periodMs };
  const { exec = [] } = probe;
  const argv = exec.map((argument) => renderTemplate(argument, places.valuesOf(slot)));
  const file = plan.commands.get(templateText(exec[0] ?? []));
  if (file === undefined) throw new RangeError(`probe command of pool "${config.name}" was not resolved`);
  return { kind: "exec", file, argv };
}
