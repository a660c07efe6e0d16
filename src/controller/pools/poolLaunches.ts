/** How the workers and the Envoy of each pool are launched. */

import type { LaunchedPool } from "../../config/config.ts";
import type { PoolProxy } from "../../envoy/control/proxy.ts";
import { einhornVariables } from "../../runtime/channel/einhornSocket.ts";
import { INOTIFY_OF_ENVOY, requireInotify } from "../../runtime/os/inotify.ts";
import { getLimit, RLIMITS } from "../../runtime/os/linux.ts";
import type { LaunchPlan } from "../../runtime/process/launch.ts";
import type { PoolLaunch } from "../../runtime/process/poolLaunch.ts";
import type { InheritedSockets } from "../../runtime/socket/sockets.ts";
import type { EnvoyProgram } from "../preflight.ts";
import type { WorkerPlaces } from "./workerPlaces.ts";

/** The launch of a pool's workers. */
export function workerLaunch(
  pool: LaunchedPool,
  plan: LaunchPlan,
  places: WorkerPlaces,
  sockets: InheritedSockets | undefined,
): PoolLaunch {
  return {
    name: pool.name,
    plan,
    prepare: (slot) => places.prepare(slot),
    argsOf: (slot) => places.argsOf(slot),
    envOf: (slot) => places.envOf(slot),
    captured: pool.logs.mode === "annotate",
    sockets,
    notifies: pool.probes?.readiness?.notify === true,
    ...reportingOf(pool, plan, places, sockets),
  };
}

/** The sockets on which workers report about themselves. */
function reportingOf(
  { probes }: LaunchedPool,
  { credentials: owner }: LaunchPlan,
  places: WorkerPlaces,
  sockets: InheritedSockets | undefined,
): Pick<PoolLaunch, "socketsOf"> {
  const { readiness, liveness } = probes ?? {};
  const notifies = readiness?.sdNotify === true || liveness?.sdNotify === true;
  const watchdogMs = liveness?.sdNotify === true ? liveness.periodMs : undefined;
  const usesEinhorn = readiness?.einhorn === true && sockets !== undefined;
  if (!notifies && !usesEinhorn) return {};
  return {
    socketsOf: (slot, incarnation) => {
      const path = (kind: "n" | "e") => places.reportPath(`${kind}${slot}.${incarnation}`);
      const einhornPath = path("e");
      return {
        owner,
        notify: notifies ? { path: path("n"), watchdogMs } : undefined,
        einhorn: usesEinhorn ? { path: einhornPath, variables: einhornVariables(einhornPath, sockets) } : undefined,
      };
    },
  };
}

/** The launch of an Envoy. It inherits no settings of the workers and few of the controller. */
export function proxyLaunch(
  name: string,
  { file, credentials }: Pick<EnvoyProgram, "file" | "credentials">,
  proxy: () => PoolProxy,
): PoolLaunch {
  return {
    name,
    plan: {
      file,
      commands: new Map(),
      env: { PATH: process.env["PATH"] ?? "", ...timeZone() },
      configured: new Set(),
      cwd: undefined,
      credentials,
      umask: undefined,
      nice: undefined,
      oomScoreAdj: undefined,
      // Each client connection needs a descriptor: use the controller's hard limit, not its initial soft limit.
      rlimits: new Map([["nofile", { soft: getLimit(0, RLIMITS["nofile"] ?? 7).hard, hard: undefined }]]),
    },
    prepare: () => {
      // Without enough inotify instances Envoy would abort with a backtrace.
      requireInotify(INOTIFY_OF_ENVOY, credentials?.uid);
      proxy().prepare();
    },
    argsOf: () => proxy().args(),
    envOf: () => ({}),
    captured: true,
    sockets: undefined,
    notifies: false,
    // Envoy exits at once on SIGTERM. A signal to the whole service (systemd's KillMode=control-group) must not end it
    // before its requests.
    quit: () => proxy().quit(),
  };
}

function timeZone(): Readonly<Record<string, string>> {
  const zone = process.env["TZ"];
  return zone === undefined ? {} : { TZ: zone };
}
