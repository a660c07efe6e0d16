/**
 * The configuration Envoy starts with: who it is, where its admin interface is, and that listeners, clusters and
 * endpoints come from files; and the same in one piece, for Envoy to check. Pure.
 */
import { cluster } from "./cluster.ts";
import { endpoints } from "./endpoints.ts";
import { fileSource, proxyFiles } from "./files.ts";
import type { JsonObject } from "./json.ts";
import { typed } from "./json.ts";
import { listener } from "./listener.ts";
import { type AdminPlace, type ProxyPlaces, type ProxySettings, SINCE } from "./settings.ts";

/** Envoy's bootstrap configuration. */
export function bootstrap(settings: ProxySettings, places: ProxyPlaces): JsonObject {
  const files = proxyFiles(places);
  return {
    ...commonPart(settings, places),
    dynamic_resources: { lds_config: fileSource(files.listeners), cds_config: fileSource(files.clusters) },
  };
}

/**
 * All that Envoy would read in one file that needs no other, for `--mode validate`, which looks at no file that a
 * bootstrap only points to.
 */
export function bootstrapToCheck(settings: ProxySettings, places: ProxyPlaces): JsonObject {
  const sample = { slot: 0, incarnation: 1, state: "serving", address: { port: 1 } } as const;
  return {
    ...commonPart(settings, places),
    static_resources: {
      listeners: [listener(settings)],
      clusters: [
        {
          ...cluster(settings, proxyFiles(places).endpoints),
          type: "STATIC",
          eds_cluster_config: undefined,
          load_assignment: endpoints([sample]),
        },
      ],
    },
  };
}

function commonPart(settings: ProxySettings, places: ProxyPlaces): JsonObject {
  return {
    node: { id: settings.pool, cluster: settings.pool },
    admin: { address: adminAddress(places.admin), ignore_global_conn_limit: true },
    // Histograms are only brought up to date by a flush; as often as they are read.
    stats_flush_interval: "1s",
    layered_runtime: {
      layers: [
        { name: "static", static_layer: runtimeFlags(settings) },
        // Takes what the controller sets through the admin interface.
        { name: "admin", admin_layer: {} },
      ],
    },
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

function runtimeFlags({ envoyMinor }: ProxySettings): JsonObject {
  const flag = "envoy.reloadable_features";
  return {
    // LEAST_REQUEST counts requests that wait for a worker's connection too. Without it the requests beyond the limit of
    // a worker pile up at one worker while others have none.
    [`${flag}.least_request_lb_count_pending_requests`]:
      envoyMinor < SINCE.least_request_lb_count_pending_requests ? undefined : true,
    // A fragment in a request target is cut off instead of answered 400.
    [`${flag}.http_reject_path_with_fragment`]: false,
  };
}

/** Reachable for the owner alone: the admin interface can stop Envoy. */
function adminAddress(admin: AdminPlace): JsonObject {
  return "port" in admin
    ? { socket_address: { address: "127.0.0.1", port_value: admin.port } }
    : { pipe: { path: admin.socketPath, mode: 0o600 } };
}
