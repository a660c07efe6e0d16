/** The endpoints of a proxy: which workers there are and which of them may get something new. Pure. */
import { type JsonObject, typed } from "./json.ts";
import { CLUSTER_NAME, type Upstream, type UpstreamAddress } from "./settings.ts";

/** The resource that lists them (envoy.config.endpoint.v3.ClusterLoadAssignment), in the order of their slots. */
export function endpoints(upstreams: readonly Upstream[]): JsonObject {
  const sorted = upstreams.toSorted((a, b) => a.slot - b.slot);
  return {
    ...typed("envoy.config.endpoint.v3.ClusterLoadAssignment"),
    cluster_name: CLUSTER_NAME,
    endpoints: sorted.length === 0 ? [] : [{ lb_endpoints: sorted.map(endpoint) }],
  };
}

function endpoint({ address, state }: Upstream): JsonObject {
  return {
    endpoint: { address: endpointAddress(address) },
    health_status: state === "serving" ? "HEALTHY" : "DRAINING",
  };
}

function endpointAddress(address: UpstreamAddress): JsonObject {
  return "port" in address
    ? { socket_address: { address: "127.0.0.1", port_value: address.port } }
    : { pipe: { path: address.path } };
}
