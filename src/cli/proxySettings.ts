/** From the configuration of a pool's server to what the control of its Envoy is told. */
import type { PoolConfig, ServerConfig } from "../config/config.ts";
import type { ProxyPlaces, ProxySettings } from "../envoy/settings.ts";

/**
 * How long clients are told to go elsewhere before nobody listens any more: each answer of that time closes its
 * connection. One that keeps its connection idle holds the shutdown up for so long.
 */
const LONGEST_FAREWELL_S = 3;

/** The settings of the proxy of `pool`, whose `server` is there. */
export function proxySettings(pool: PoolConfig, server: ServerConfig): ProxySettings {
  const { maxConcurrentPerWorker, tls } = server;
  return {
    pool: pool.name,
    listenerAddress: server.listenerAddress,
    listenerPort: server.listenerPort,
    protocol: server.protocol,
    algorithm: server.loadBalancerAlgorithm,
    hashOn: server.hashOn,
    healthCheckPath: server.healthCheckPath,
    requestTimeoutMs: server.requestTimeoutMs,
    maxConcurrentPerWorker: maxConcurrentPerWorker === "unlimited" ? undefined : maxConcurrentPerWorker,
    maxQueue: server.maxQueue,
    workerKeepaliveMs: server.workerKeepaliveMs,
    concurrency: server.concurrency,
    accessLog: server.accessLog,
    tls,
    drainTimeSeconds: Math.max(1, Math.min(LONGEST_FAREWELL_S, Math.floor(server.drainTimeoutMs / 1000))),
    replacedDrainSeconds: Math.max(1, Math.ceil(server.drainTimeoutMs / 1000)),
  };
}

/** Where the files and the admin interface of the proxy are; `directory` is absolute and this proxy's alone. */
export function proxyPlaces(server: ServerConfig, directory: string): ProxyPlaces {
  const { adminPort } = server;
  return {
    directory,
    admin: adminPort === undefined ? { socketPath: `${directory}/admin.sock` } : { port: adminPort },
  };
}
