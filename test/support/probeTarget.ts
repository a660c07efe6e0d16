/** A worker without probes, for tests of its health. */
import type { WorkerRef } from "../../src/core/identity.ts";
import type { ProbeTarget } from "../../src/runtime/probe/prober.ts";

export const WORKER: WorkerRef = { pool: 0, slot: 0, incarnation: 1 };

export const TARGET: ProbeTarget = {
  ...WORKER,
  revision: 1,
  pid: 100,
  owner: { leader: 100 },
  address: { port: 80 },
  startup: undefined,
  readiness: undefined,
  liveness: undefined,
  readinessChannel: undefined,
};
