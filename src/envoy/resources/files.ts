/** The files Envoy reads: where they are and what form they have. Pure. */
import { type JsonObject, typed } from "./json.ts";
import type { ProxyPlaces } from "./settings.ts";

/** Paths of everything Envoy reads. Each kind has a directory of its own: see fileSource. */
export interface ProxyFiles {
  readonly bootstrap: string;
  readonly listeners: string;
  readonly clusters: string;
  readonly routes: string;
  readonly endpoints: string;
}

/** Where the files of a proxy are. */
export function proxyFiles({ directory }: ProxyPlaces): ProxyFiles {
  return {
    bootstrap: `${directory}/bootstrap.json`,
    listeners: `${directory}/listeners/lds.json`,
    clusters: `${directory}/clusters/cds.json`,
    routes: `${directory}/routes/rds.json`,
    endpoints: `${directory}/endpoints/eds.json`,
  };
}

/**
 * A file as a source of resources; it must exist when Envoy starts. Envoy reads it again at each rename inside its
 * directory, whatever is renamed there.
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
