/** The system queries that configuration checks make, against the real system unless a test replaces it. */
import type { Logger } from "../base/log.ts";
import type { EphemeralPorts } from "../config/ports.ts";
import type { Environment } from "../config/variables.ts";
import {
  checkConfiguration,
  type EnvoyBinary,
  type EnvoyRequest,
  findEnvoy,
  type RunProgram,
} from "../envoy/control/binary.ts";
import type { ProxyLocation, ProxySettings } from "../envoy/resources/settings.ts";
import type { Identity } from "../files/inspectPath.ts";
import { type FileError, readWholeFile } from "../files/readFile.ts";
import { memoryBoundBytes } from "../runtime/os/cgroup.ts";
import { availableCpus } from "../runtime/os/cpus.ts";
import { readEphemeralPorts } from "../runtime/os/ephemeralPorts.ts";
import { INOTIFY_OF_ENVOY, requireInotify } from "../runtime/os/inotify.ts";
import { SystemCallError } from "../runtime/os/linux.ts";
import { hasRefusedProcesses, processLimitError } from "../runtime/os/processLimit.ts";
import { exactEnvironment, readOwnOomScoreAdj } from "../runtime/os/procfs.ts";
import { chooseEnvoyUser, type EnvoyUser, type EnvoyUserWish } from "../runtime/process/envoyUser.ts";
import { Guardian } from "../runtime/process/guardian.ts";
import type { ToolControl } from "../runtime/process/helpers.ts";
import { type LaunchPlan, type LaunchRequest, type OnLaunchProblem, planLaunch } from "../runtime/process/launch.ts";
import { controllerMark } from "../runtime/process/leftovers.ts";
import { findShimObstacles } from "../runtime/process/spawnShim.ts";
import { StartTools } from "../runtime/process/startTools.ts";
import { runTool } from "../runtime/process/tool.ts";
import { type LogFileProblem, logFileProblem } from "./logFileChecks.ts";
import { RuntimeDirectory } from "./pools/runtimeDirectory.ts";

/** The system as configuration checks see it: the real system unless a test replaces it. */
export interface SystemChecks {
  availableCpus(): number;
  /** Bytes that all processes of the controller's control group may use together; undefined if there is no limit. */
  memoryBoundBytes(): number | undefined;
  /** The controller's own oom_score_adj; undefined if unknown. */
  oomScoreAdj(): number | undefined;
  /** Where the spawn shim cannot be executed, with the reason; empty if it can be executed. */
  shimObstacles(runtimeDir: string | undefined): readonly string[];
  /** Ports that outgoing connections may use; undefined if unknown. */
  ephemeralPorts(): EphemeralPorts | undefined;
  /** Passes every problem that prevents the pool from starting to `onProblem`, and returns undefined then. */
  checkLaunch(request: LaunchRequest, env: NodeJS.ProcessEnv, onProblem: OnLaunchProblem): LaunchPlan | undefined;
  /** Why Envoy could not read a file; undefined if it can. */
  fileProblem(path: string): Promise<string | undefined>;
  /** Rejects with a ControllerError if there is no suitable Envoy. */
  findEnvoy(request: EnvoyRequest): Promise<EnvoyBinary>;
  /** Rejects with a ControllerError if Envoy refuses its configuration. */
  checkProxy(binary: EnvoyBinary, settings: ProxySettings, places: ProxyLocation): Promise<void>;
  /** Checks that the Envoys of these pools can watch their files. @throws ControllerError INOTIFY_EXHAUSTED */
  checkWatches(proxies: readonly ProxyIdentity[]): void;
  /** Why a log file cannot be used by workers of these users; undefined if it can. */
  logFileProblem(path: string, identities: readonly Identity[]): LogFileProblem | undefined;
  /** Throws a ControllerError if Envoy cannot run as the user that the pool requests. */
  chooseEnvoyUser(wish: EnvoyUserWish): EnvoyUser;
}

/** An Envoy, by its pool, and the user that it runs as; undefined means the controller's user. */
export interface ProxyIdentity {
  readonly pool: string;
  readonly uid: number | undefined;
}

/** Envoy takes 0.1 s to print its version or to check a configuration. */
const ENVOY_TIMEOUT_MS = 20_000;

const ignore = () => {};
const SILENT: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };

/** Runs Envoy to completion as a tool of `tools`. */
export function toolRunner(tools: ToolControl): RunProgram {
  return async (file, args) => {
    try {
      const request = { workerPid: undefined, file, argv: [file, ...args] };
      const { status, output } = await runTool(tools, request, ENVOY_TIMEOUT_MS);
      if (status === undefined) return { kind: "timeout", boundMs: ENVOY_TIMEOUT_MS };
      if (status.kind === "signal" && hasRefusedProcesses()) throw processLimitError(`Cannot run "${file}"`);
      return { kind: "ended", code: status.kind === "code" ? status.code : undefined, output };
    } catch (error) {
      if (!(error instanceof SystemCallError) || error.code !== "EAGAIN") throw error;
      throw processLimitError(`Cannot run "${file}"`, error);
    }
  };
}

/** Runs Envoy to completion without a controller, with a guardian meanwhile. */
const runAlone: RunProgram = async (file, args) => {
  const guardian = new Guardian(controllerMark());
  using tools = new StartTools(guardian, controllerMark());
  try {
    return await toolRunner(tools)(file, args);
  } finally {
    guardian.release();
  }
};

/** The controller's environment as its workers inherit it, byte for byte. */
export function ownEnvironment(env: NodeJS.ProcessEnv): Environment {
  return exactEnvironment(env);
}

/** The real system. `run` runs Envoy to completion; `isProxied` returns whether a pool's Envoy is running. */
export function systemChecks(run: RunProgram = runAlone, isProxied = (_pool: string) => false): SystemChecks {
  return {
    availableCpus: () => availableCpus(),
    memoryBoundBytes: () => memoryBoundBytes(),
    oomScoreAdj: () => readOwnOomScoreAdj(),
    shimObstacles: (runtimeDir) => {
      using stack = new DisposableStack();
      return findShimObstacles(() => stack.use(RuntimeDirectory.create(runtimeDir, SILENT)).path);
    },
    ephemeralPorts: () => readEphemeralPorts(),
    checkLaunch: planLaunch,
    fileProblem: (path) =>
      readWholeFile(path).then(
        () => undefined,
        (error: FileError) => error.message,
      ),
    findEnvoy: (request) => findEnvoy(request, run),
    checkProxy: (binary, settings, places) => checkConfiguration(binary, settings, places, run),
    checkWatches: (proxies) => {
      const starting = Map.groupBy(
        proxies.filter(({ pool }) => !isProxied(pool)),
        ({ uid }) => uid,
      );
      for (const [uid, envoys] of starting) requireInotify(envoys.length * INOTIFY_OF_ENVOY, uid);
    },
    logFileProblem,
    chooseEnvoyUser,
  };
}
