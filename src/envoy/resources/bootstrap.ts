/**
 * Envoy's bootstrap configuration: node identity, admin interface, and files as the source of listeners, clusters and
 * endpoints. Also a self-contained variant for Envoy to validate. Pure.
 */
import { cluster } from "./cluster.ts";
import { endpoints } from "./endpoints.ts";
import { fileSource, proxyFiles } from "./files.ts";
import type { JsonObject } from "./json.ts";
import { typed } from "./json.ts";
import { listener } from "./listener.ts";
import { type AdminAddress, type ProxyLocation, type ProxySettings, SINCE } from "./settings.ts";

/** Envoy's bootstrap configuration. */
export function bootstrap(settings: ProxySettings, location: ProxyLocation): JsonObject {
  const files = proxyFiles(location);
  return {
    ...commonPart(settings, location),
    dynamic_resources: { lds_config: fileSource(files.listeners), cds_config: fileSource(files.clusters) },
  };
}

/**
 * A self-contained bootstrap with everything that Envoy would read, for `--mode validate`, which does not open files
 * that a bootstrap only refers to.
 */
export function bootstrapToCheck(settings: ProxySettings, location: ProxyLocation): JsonObject {
  const sample = { slot: 0, incarnation: 1, state: "serving", address: { port: 1 } } as const;
  return {
    ...commonPart(settings, location),
    static_resources: {
      listeners: [listener(settings)],
      clusters: [
        {
          ...cluster(settings, proxyFiles(location).endpoints),
          type: "STATIC",
          eds_cluster_config: undefined,
          load_assignment: endpoints([sample]),
        },
      ],
    },
  };
}

function commonPart(settings: ProxySettings, location: ProxyLocation): JsonObject {
  return {
    node: { id: settings.pool, cluster: settings.pool },
    admin: { address: adminAddress(location.admin), ignore_global_conn_limit: true },
    // Envoy updates histograms only at a flush, so it flushes as often as they are read.
    stats_flush_interval: "1s",
    layered_runtime: {
      layers: [
        { name: "static", static_layer: runtimeFlags(settings) },
        // Holds what the controller sets through the admin interface.
        { name: "admin", admin_layer: {} },
      ],
    },
    // Envoy warns at each start if there is no limit; file descriptors run out before this one.
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
    // Makes LEAST_REQUEST also count requests that wait for a worker's connection. Otherwise requests beyond a worker's
    // limit pile up at one worker while others have none.
    [`${flag}.least_request_lb_count_pending_requests`]:
      envoyMinor < SINCE.least_request_lb_count_pending_requests ? undefined : true,
    // Envoy strips a fragment from the request target instead of responding 400.
    [`${flag}.http_reject_path_with_fragment`]: false,
  };
}

/** Only the owner may connect, because the admin interface can stop Envoy. */
function adminAddress(admin: AdminAddress): JsonObject {
  return "port" in admin
    ? { socket_address: { address: "127.0.0.1", port_value: admin.port } }
    : { pipe: { path: admin.socketPath, mode: 0o600 } };
}
