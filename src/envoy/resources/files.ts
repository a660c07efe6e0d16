/** The files that Envoy reads: their paths and their format. Pure. */
import { type JsonObject, typed } from "./json.ts";
import type { ProxyLocation } from "./settings.ts";

export type ProxyFiles = Readonly<ReturnType<typeof proxyFiles>>;

/** Paths of all files that a proxy reads. Each kind has its own directory; see fileSource. */
export function proxyFiles({ directory }: ProxyLocation) {
  return {
    bootstrap: `${directory}/bootstrap.json`,
    listeners: `${directory}/listeners/lds.json`,
    clusters: `${directory}/clusters/cds.json`,
    routes: `${directory}/routes/rds.json`,
    endpoints: `${directory}/endpoints/eds.json`,
  };
}

/**
 * A file as a source of resources; it must exist when Envoy starts. Envoy reads it again after each rename inside its
 * directory, whichever file is renamed.
 */
export function fileSource(path: string): JsonObject {
  return {
    resource_api_version: "V3",
    path_config_source: { path, watched_directory: { path: path.slice(0, path.lastIndexOf("/")) } },
  };
}

/** A file that holds resources of a type (envoy.service.discovery.v3.DiscoveryResponse). */
export function resourceFile(version: string, type: string, resources: readonly JsonObject[]): JsonObject {
  return { version_info: version, resources: resources.map((resource) => typed(type, resource)) };
}
