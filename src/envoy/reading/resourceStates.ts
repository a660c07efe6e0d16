/**
 * The state of a changed resource (routes, listener, cluster): which Envoy statistics describe it and what they mean.
 * Endpoints, which change all the time, are in readings.ts. Pure.
 */

import { LISTENER_NAME } from "../resources/settings.ts";
import { filterOf, numberOf } from "./adminAnswers.ts";

/** A resource that changes when the settings do. */
export type ResourceKind = "routes" | "listener" | "cluster";

/** What Envoy reports about one resource. */
export interface ResourceState {
  /** The last version that Envoy accepted. */
  readonly version: string;
  /** Number of updates that Envoy has not accepted since it started. */
  readonly refusals: number;
  /** Whether the accepted version is in use, not only warming. */
  readonly isSettled: boolean;
}

type Stats = ReadonlyMap<string, number | string>;

const PREFIXES: Readonly<Record<ResourceKind, string>> = {
  routes: `http.${LISTENER_NAME}.rds.${LISTENER_NAME}`,
  listener: "listener_manager.lds",
  cluster: "cluster_manager.cds",
};

const LISTENER = {
  warming: "listener_manager.total_listeners_warming",
  active: "listener_manager.total_listeners_active",
  failed: "listener_manager.listener_create_failure",
} as const;

const CLUSTERS_WARMING = "cluster_manager.warming_clusters";

/** Filter for the statistics of all kinds. */
export const RESOURCES_FILTER = filterOf([
  ...Object.values(PREFIXES).flatMap((prefix) =>
    ["version_text", "update_rejected", "update_failure"].map((name) => `${prefix}.${name}`),
  ),
  ...Object.values(LISTENER),
  CLUSTERS_WARMING,
]);

/** The state of one kind of resource. */
export function resourceState(kind: ResourceKind, stats: Stats): ResourceState {
  const prefix = PREFIXES[kind];
  const refusals = numberOf(stats, `${prefix}.update_rejected`) + numberOf(stats, `${prefix}.update_failure`);
  const version = String(stats.get(`${prefix}.version_text`) ?? "");
  switch (kind) {
    case "routes":
      return { version, refusals, isSettled: true };
    case "listener":
      return {
        version,
        // An accepted listener may still fail to listen.
        refusals: refusals + numberOf(stats, LISTENER.failed),
        isSettled: numberOf(stats, LISTENER.warming) === 0 && numberOf(stats, LISTENER.active) > 0,
      };
    case "cluster":
      // Envoy uses the old cluster until it has read the endpoints and checked each worker once.
      return { version, refusals, isSettled: numberOf(stats, CLUSTERS_WARMING) === 0 };
  }
}
