/** Converts the configuration of a pool's server to the settings of its Envoy. */
import type { PoolConfig, ServerConfig } from "../config/config.ts";
import { ofClass } from "../config/field.ts";
import { server as serverKind } from "../config/keys/server.ts";
import type { ProxyLocation, ProxySettings, ProxyUser } from "../envoy/resources/settings.ts";

/**
 * Maximum time in which Envoy closes each connection after its next response, before the listener closes. A client with
 * an idle connection delays the shutdown by this time.
 */
const LONGEST_FAREWELL_S = 3;

/** The settings of the proxy of `pool`, which has `server`, for an Envoy of this version (such as 1.40.0). */
export function proxySettings(pool: PoolConfig, server: ServerConfig, envoyVersion: string): ProxySettings {
  const { maxConcurrentPerWorker, protocol, concurrency } = server;
  return {
    ...ofClass(serverKind, "proxy", server),
    pool: pool.name,
    protocol,
    concurrency,
    maxConcurrentPerWorker: maxConcurrentPerWorker === "unlimited" ? undefined : maxConcurrentPerWorker,
    envoyMinor: minorOf(envoyVersion),
    drainTimeSeconds: Math.max(1, Math.min(LONGEST_FAREWELL_S, Math.floor(server.drainTimeoutMs / 1000))),
    replacedDrainSeconds: Math.max(1, Math.ceil(server.drainTimeoutMs / 1000)),
  };
}

/** The minor version of Envoy 1.x; a later major version has every feature of 1.x. */
function minorOf(version: string): number {
  const [major, minor] = version.split(".").map(Number);
  return major === 1 && minor !== undefined ? minor : Number.MAX_SAFE_INTEGER;
}

/**
 * Where the files and the admin interface of the proxy are; `directory` is absolute and this proxy's alone. `user` is
 * the user that Envoy runs as, if not the controller's.
 */
export function proxyPlaces(server: ServerConfig, directory: string, user?: ProxyUser): ProxyLocation {
  const { adminPort } = server;
  return {
    directory,
    admin: adminPort === undefined ? { socketPath: `${directory}/admin/sock` } : { port: adminPort },
    user,
  };
}
