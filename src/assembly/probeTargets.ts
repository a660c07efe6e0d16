/** From the configuration of a pool to what is asked of one of its workers. Decides nothing at run time. */
import type { PoolConfig, ProbeConfig } from "../config/config.ts";
import type { LaunchedPool } from "../config/diff.ts";
import { policyOf } from "../config/spec.ts";
import { renderTemplate, templateText } from "../config/template.ts";
import type { Slot } from "../core/identity.ts";
import type { ProbePolicy } from "../core/probe.ts";
import type { ProbeAddress } from "../runtime/attempt.ts";
import type { Probe, ProbeMethod } from "../runtime/prober.ts";
import type { PoolRevision } from "./poolRegistry.ts";

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

/** Without probes a worker is looked at until it is seen to serve. */
const FIRST_SIGHT: ProbePolicy = FIRST_CONNECTION;

/** How the server of a worker is asked whether it serves; without a path by a connection. */
export interface HealthCheck {
  readonly path: string | undefined;
  readonly host: string;
}

/** What a configuration says about it. */
export function healthCheckOf({ server }: PoolConfig): HealthCheck {
  return { path: server?.healthCheckPath, host: server?.healthCheckHost ?? "localhost" };
}

/** What is asked of a worker. */
export interface WorkerProbes {
  readonly startup: Probe | undefined;
  readonly readiness: Probe | "notify" | undefined;
  readonly liveness: Probe | undefined;
}

/**
 * The probes of a slot's worker; `verify` gives the addresses at which only its own processes may answer now,
 * `healthCheck` what the configuration in force says about it.
 */
export function workerProbes(
  pool: PoolRevision,
  slot: Slot,
  verify: () => readonly ProbeAddress[],
  healthCheck: () => HealthCheck,
): WorkerProbes {
  const { startup, readiness, liveness } = pool.config.probes ?? {};
  const ready =
    readiness === undefined ? undefined : readiness.notify === true ? "notify" : probeOf(readiness, pool, slot);
  return {
    startup:
      startup === undefined
        ? firstConnection(pool.config, verify, healthCheck)
        : { ...probeOf(startup, pool, slot), verify },
    readiness: typeof ready === "object" ? { ...ready, verify } : ready,
    liveness: liveness === undefined ? undefined : probeOf(liveness, pool, slot),
  };
}

/** How a worker with shared sockets is looked at that no probe asks whether it is ready. */
export function servingProbe(sockets: readonly { readonly name: string; readonly address: string }[]): Probe {
  return { method: { kind: "serving", sockets }, policy: FIRST_SIGHT };
}

/** Where only processes of the worker may listen: at its own address, and wherever its readiness is asked for. */
export function ownAddresses({ config, places }: PoolRevision, slot: Slot): readonly ProbeAddress[] {
  const own = config.server === undefined ? undefined : places.addressOf(slot);
  const { startup, readiness } = config.probes ?? {};
  const ports = [startup, readiness].flatMap((probe) => portOf(probe) ?? []);
  return [...(own === undefined ? [] : [own]), ...[...new Set(ports)].map((port) => ({ port }))];
}

/** The port that a probe names, where it is not the worker's own. */
function portOf(probe: ProbeConfig | undefined): number | undefined {
  return (probe?.http ?? probe?.tcp ?? probe?.grpc)?.port;
}

/** Asked unless a readiness probe asks the same and more. A reload may change how while the worker starts. */
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
    const argv = exec.map((argument) => renderTemplate(argument, places.valuesOf(slot)));
    const file = plan.commands.get(templateText(exec[0] ?? []));
    if (file === undefined) throw new RangeError(`probe command of pool "${config.name}" was not looked for`);
    return { kind: "exec", file, argv };
  }
  return { kind: "tcp", port: tcp?.port };
}
