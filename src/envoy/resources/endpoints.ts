/** A proxy's endpoints: its workers, and which may receive new requests. Envoy health-checks all of them. Pure. */
import type { JsonObject } from "./json.ts";
import { CLUSTER_NAME, type Upstream, type UpstreamAddress } from "./settings.ts";

/** Type of the resource that lists endpoints. */
export const ENDPOINTS_TYPE = "envoy.config.endpoint.v3.ClusterLoadAssignment";

/** The endpoints resource, ordered by slot. */
export function endpoints(upstreams: readonly Upstream[]): JsonObject {
  const sorted = upstreams.toSorted((a, b) => a.slot - b.slot);
  return {
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
