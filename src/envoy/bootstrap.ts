/**
 * The configuration Envoy starts with: who it is, where its admin interface is, and that listeners, clusters and
 * endpoints come from files. Each kind of file has a directory of its own, because a rename inside a watched directory
 * makes Envoy read again whatever it watches there. Pure.
 */
import { type Json, type JsonObject, typed } from "./json.ts";
import type { AdminPlace, ProxyPlaces, ProxySettings } from "./settings.ts";

/** Paths of everything Envoy reads. */
export interface ProxyFiles {
  readonly bootstrap: string;
  readonly listeners: string;
  readonly clusters: string;
  readonly endpoints: string;
}

/** Where the files of a proxy are. */
export function proxyFiles({ directory }: ProxyPlaces): ProxyFiles {
  return {
    bootstrap: `${directory}/bootstrap.json`,
    listeners: `${directory}/listeners/lds.json`,
    clusters: `${directory}/clusters/cds.json`,
    endpoints: `${directory}/endpoints/eds.json`,
  };
}

/** A file as a source of resources; it must exist when Envoy starts. */
export function fileSource(path: string): JsonObject {
  return {
    resource_api_version: "V3",
    path_config_source: { path, watched_directory: { path: path.slice(0, path.lastIndexOf("/")) } },
  };
}

/** A file that holds resources (envoy.service.discovery.v3.DiscoveryResponse). */
export function discoveryResponse(version: string, resources: readonly Json[]): JsonObject {
  return { version_info: version, resources };
}

/** Envoy's bootstrap configuration. */
export function bootstrap(settings: ProxySettings, places: ProxyPlaces): JsonObject {
  const files = proxyFiles(places);
  return {
    node: { id: settings.pool, cluster: settings.pool },
    admin: { address: adminAddress(places.admin), ignore_global_conn_limit: true },
    dynamic_resources: { lds_config: fileSource(files.listeners), cds_config: fileSource(files.clusters) },
    layered_runtime: { layers: [{ name: "static", static_layer: RUNTIME_FLAGS }] },
    // Without a limit of any size Envoy warns at each start; descriptors end first.
    overload_manager: {
      resource_monitors: [
        {
          name: "envoy.resource_monitors.global_downstream_max_connections",
          typed_config: typed(
            "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            { max_active_downstream_connections: 1_000_000 },
          ),
        },
      ],
    },
  };
}

/**
 * LEAST_REQUEST counts requests that wait for a worker's connection too. Without it those beyond the limit of a worker
 * pile up at one worker while others have none (tried on 1.40, which has the flag, off by default; older ones log that
 * they do not know it).
 */
const RUNTIME_FLAGS: JsonObject = { "envoy.reloadable_features.least_request_lb_count_pending_requests": true };

/** Reachable for the owner alone: the admin interface can stop Envoy. */
function adminAddress(admin: AdminPlace): JsonObject {
  return "port" in admin
    ? { socket_address: { address: "127.0.0.1", port_value: admin.port } }
    : { pipe: { path: admin.socketPath, mode: 0o600 } };
}
