/**
 * State, events and steps of reloads. All of it is plain data: it knows a pool's configuration by the number that the
 * caller gave it.
 */
import type { WideLifecycleEvent } from "../event.ts";
import type { ControllerPolicy, PoolSpec } from "../spec.ts";

/** One configuration of a pool. */
export interface PoolVersion {
  /** Number of the configuration; chosen by the caller, unique. */
  readonly id: number;
  /** Number of the configuration whose proxy settings apply: an earlier one if Envoy refused those of `id`. */
  readonly proxyId: number;
  readonly spec: PoolSpec;
  /** The specification of its proxy; undefined without a proxy. */
  readonly proxySpec: PoolSpec | undefined;
}

/** An operation, and the pool that it is about. */
export interface ReloadOperation {
  readonly id: string;
  readonly pool: string;
}

/** A pool of the configuration. */
export type ReloadedPool = { readonly wanted: PoolVersion } & (
  | {
      readonly phase: "running";
      /** The last configuration with which it ran, for rollback; undefined until it has started. */
      readonly proved: PoolVersion | undefined;
      /** The latest operation on it; undefined before the first reload. */
      readonly latest: string | undefined;
    }
  /** Pools that are being removed have its name, ports or sockets (`blockers`). Its operations are announced as queued. */
  | {
      readonly phase: "waiting";
      readonly blockers: readonly string[];
      readonly operations: readonly ReloadOperation[];
    }
  /** Its ports and sockets are being claimed. */
  | { readonly phase: "preparing"; readonly revision: number; readonly operations: readonly ReloadOperation[] }
);

/** A pool that is being removed: first its workers, then its proxy. */
export interface LeavingPool {
  readonly name: string;
  readonly proxy: string | undefined;
  /** How many replicas claimed its ports. */
  readonly replicas: number;
  readonly version: PoolVersion;
}

/** What an operation does for a reload. */
export type Purpose =
  | { readonly kind: "apply"; readonly pool: string; readonly version: PoolVersion }
  | { readonly kind: "startProxy"; readonly pool: string }
  | { readonly kind: "removeWorkers"; readonly pool: string }
  | { readonly kind: "removeProxy"; readonly pool: string };

export interface ReloadState {
  /** In the order of the file. */
  readonly pools: readonly ReloadedPool[];
  readonly leaving: readonly LeavingPool[];
  /** Operations that have not ended, and why a reload began them. */
  readonly operations: readonly { readonly id: string; readonly purpose: Purpose }[];
  /** The highest revision that each pool ever had, by its name. */
  readonly revisions: Readonly<Record<string, number>>;
  /** How many operations reloads have begun so far. */
  readonly begun: number;
}

/** How a pool differs from the running one. */
export type PoolChange =
  /** `blockers`: pools with which it cannot run at the same time; only those that are being removed matter. */
  | { readonly kind: "added"; readonly version: PoolVersion; readonly blockers: readonly string[] }
  | { readonly kind: "removed"; readonly name: string }
  | {
      readonly kind: "changed";
      readonly version: PoolVersion;
      /** Whether workers must be launched with it. */
      readonly isLaunched: boolean;
      /** Whether its replicas changed; otherwise it keeps those that an operator or the autoscaler chose. */
      readonly isScaled: boolean;
      readonly isProxyChanged: boolean;
      /** The changed keys. */
      readonly reason: string;
    };

/** A configuration that was read again and differs. */
export interface ReloadRequest {
  /** The names of all pools, in the order of the file. */
  readonly names: readonly string[];
  readonly changes: readonly PoolChange[];
  /** undefined if it has not changed. */
  readonly policy: ControllerPolicy | undefined;
}

/** A revision of a pool that must exist before workers are launched with it. */
export interface Preparation {
  readonly version: PoolVersion;
  readonly revision: number;
  /** Whether its ports and sockets must be claimed too. */
  readonly isNew: boolean;
}

export type ReloadEvent =
  /** `prepared`: what `preparationsOf` returned and has been carried out. */
  | { readonly kind: "requested"; readonly request: ReloadRequest; readonly prepared: readonly Preparation[] }
  /** A `prepare` step has ended. `failure`: why the pool cannot start. */
  | { readonly kind: "prepared"; readonly pool: string; readonly failure: string | undefined }
  | { readonly kind: "ended"; readonly operation: string; readonly isSuccess: boolean }
  /** A `reconfigure` step has ended. */
  | { readonly kind: "reconfigured"; readonly step: Reconfigure; readonly isSuccess: boolean };

/** The proxy of a pool must be reconfigured. */
export interface Reconfigure {
  readonly kind: "reconfigure";
  readonly version: PoolVersion;
  /** Number of the configuration whose settings stay if the proxy refuses the new ones. */
  readonly previous: number;
}

/** What the caller must do, in this order. */
export type ReloadStep =
  | ({ readonly kind: "prepare" } & Preparation)
  | { readonly kind: "setPolicy"; readonly policy: ControllerPolicy }
  /** The part of a configuration that takes effect without a launch must be in force. */
  | { readonly kind: "putInForce"; readonly version: PoolVersion }
  | {
      readonly kind: "order";
      readonly id: string;
      readonly pool: string;
      readonly spec: PoolSpec;
      readonly keeps: readonly ("revision" | "replicas")[];
      readonly reason: string;
    }
  | Reconfigure
  | { readonly kind: "releaseSockets"; readonly pool: string }
  | { readonly kind: "emit"; readonly event: WideLifecycleEvent };

/** What a reload must know of the controller. */
export interface RunningPools {
  /** Whether the controller shuts down. */
  readonly isLeaving: boolean;
  /** What is desired of a pool now; undefined if no pool ever had this name. */
  specOf(name: string): PoolSpec | undefined;
}
