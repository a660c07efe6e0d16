/**
 * Everything about a configuration that can be wrong, found before anything starts and reported at once: the file, ports with the real number of replicas, executables, directories and users. `validate` and
 * `run` share it, so they never disagree. Unlike the rest of cli it may import runtime (launch plans, number of CPUs,
 * running Envoy to its end).
 */
import { dirname } from "node:path";
import { readToken } from "../admin/http/tokenFile.ts";
import { ControllerError, type ErrorCode } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import {
  type Config,
  DEFAULT_OOM_SCORE_ADJ,
  metricsScope,
  type PoolConfig,
  type ServerConfig,
} from "../config/config.ts";
import { formatProblem, type Position, type Problem } from "../config/load.ts";
import { type EphemeralPorts, findEphemeralClaims, findPortProblems } from "../config/ports.ts";
import { configToControllerSpec } from "../config/spec.ts";
import { templateText } from "../config/template.ts";
import type { Environment } from "../config/variables.ts";
import { describeShortage, memoryNeedOf } from "../core/policy/memoryNeed.ts";
import { PROBE_PURPOSES } from "../core/policy/probe.ts";
import type { ControllerSpec } from "../core/spec.ts";
import {
  checkConfiguration,
  type EnvoyBinary,
  type EnvoyRequest,
  findEnvoy,
  type RunProgram,
} from "../envoy/control/binary.ts";
import type { ProxyPlaces, ProxySettings } from "../envoy/resources/settings.ts";
import type { Identity } from "../files/inspectPath.ts";
import { FileError, readWholeFile } from "../files/readFile.ts";
import { memoryBoundBytes } from "../runtime/os/cgroup.ts";
import { availableCpus } from "../runtime/os/cpus.ts";
import { readEphemeralPorts } from "../runtime/os/ephemeralPorts.ts";
import { INOTIFY_OF_ENVOY, requireInotify } from "../runtime/os/inotify.ts";
import { SystemCallError } from "../runtime/os/linux.ts";
import { hasRefusedProcesses, processLimitError } from "../runtime/os/processLimit.ts";
import { exactEnvironment, readOwnOomScoreAdj } from "../runtime/os/procfs.ts";
import { chooseEnvoyUser, type EnvoyUser, type EnvoyUserWish } from "../runtime/process/envoyUser.ts";
import { type LaunchPlan, type LaunchRequest, type OnLaunchProblem, planLaunch } from "../runtime/process/launch.ts";
import { controllerMark } from "../runtime/process/leftovers.ts";
import { Lifeline } from "../runtime/process/lifeline.ts";
import type { ToolControl } from "../runtime/process/processes.ts";
import { findShimObstacles } from "../runtime/process/spawnShim.ts";
import { StartTools } from "../runtime/process/startTools.ts";
import { runTool } from "../runtime/process/tool.ts";
import { ConfigurationError, type ConfigurationProblem, readConfig } from "./configFile.ts";
import { RuntimeDirectory } from "./pools/runtimeDirectory.ts";
import { proxyPlaces, proxySettings } from "./proxySettings.ts";

/** A configuration that may be run. */
export interface Preflight {
  /** The file as it was named. */
  readonly file: string;
  readonly config: Config;
  readonly spec: ControllerSpec;
  /** One for each pool, in their order. */
  readonly launches: readonly LaunchPlan[];
  /** One for each pool, in their order; undefined where it has no server. */
  readonly envoys: readonly (EnvoyProgram | undefined)[];
  /** What is doubtful but no obstacle, one line each. */
  readonly warnings: readonly string[];
  /** What is as it should be, but worth knowing at a start; one line each. */
  readonly notes: readonly string[];
}

/** An Envoy and the user that it runs as. */
export type EnvoyProgram = EnvoyBinary & Pick<EnvoyUser, "credentials" | "mayLink">;

/** What the system says about a configuration; the real system unless a test plays it. */
export interface SystemChecks {
  availableCpus(): number;
  /** Bytes that all processes of the controller's control group may use together; undefined where there is no limit. */
  memoryBoundBytes(): number | undefined;
  /** The controller's own oom_score_adj; undefined if unknown. */
  oomScoreAdj(): number | undefined;
  /** The places where the spawn shim may not be executed, with the reason; none if it may. */
  shimObstacles(runtimeDir: string | undefined): readonly string[];
  /** Ports that outgoing connections may have; undefined if unknown. */
  ephemeralPorts(): EphemeralPorts | undefined;
  /** Tells `onProblem` everything that keeps the pool from being started, and returns undefined then. */
  checkLaunch(request: LaunchRequest, env: NodeJS.ProcessEnv, onProblem: OnLaunchProblem): LaunchPlan | undefined;
  /** Why Envoy could not read a file; undefined if it can. */
  fileProblem(path: string): Promise<string | undefined>;
  /** Rejects with a ControllerError where there is none that will do. */
  findEnvoy(request: EnvoyRequest): Promise<EnvoyBinary>;
  /** Rejects with a ControllerError where Envoy refuses what it would be started with. */
  checkProxy(binary: EnvoyBinary, settings: ProxySettings, places: ProxyPlaces): Promise<void>;
  /** Checks that the Envoys of these pools can watch their files. @throws ControllerError INOTIFY_EXHAUSTED */
  checkWatches(proxies: readonly ProxyIdentity[]): void;
  /** Throws a ControllerError where Envoy cannot run as the user that the pool asks for. */
  chooseEnvoyUser(wish: EnvoyUserWish): EnvoyUser;
}

/** An Envoy, by its pool, and the user that it runs as; undefined is the controller's own. */
export interface ProxyIdentity {
  readonly pool: string;
  readonly uid: number | undefined;
}

/**
 * What a missing Envoy is: who only looks at a configuration may be on a machine without one. One that server.exec names
 * is a problem everywhere, like a missing executable of a pool.
 */
export type MissingEnvoy = "problem" | "warning";

/** Envoy takes 0.1 s to say its version or to check a configuration. */
const ENVOY_TIMEOUT_MS = 20_000;

const ignore = () => {};
const SILENT: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };

/** Runs Envoy to its end as a tool of `tools`. */
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

/** Runs Envoy where there is no controller, with a guardian for as long as it takes. */
const runAlone: RunProgram = async (file, args) => {
  const lifeline = new Lifeline(controllerMark());
  using tools = new StartTools(lifeline, controllerMark());
  try {
    return await toolRunner(tools)(file, args);
  } finally {
    lifeline.release();
  }
};

/** The controller's environment as its workers inherit it, byte for byte. */
export function ownEnvironment(env: NodeJS.ProcessEnv): Environment {
  return exactEnvironment(env);
}

/** The real system; `run` is how Envoy is run to its end, `isProxied` tells pools whose Envoy runs already. */
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
    fileProblem: async (path) => {
      const content = await contentOf(path);
      return content instanceof FileError ? content.message : undefined;
    },
    findEnvoy: (request) => findEnvoy(request, run),
    checkProxy: (binary, settings, places) => checkConfiguration(binary, settings, places, run),
    checkWatches: (proxies) => {
      const starting = Map.groupBy(
        proxies.filter(({ pool }) => !isProxied(pool)),
        ({ uid }) => uid,
      );
      for (const [uid, envoys] of starting) requireInotify(envoys.length * INOTIFY_OF_ENVOY, uid);
    },
    chooseEnvoyUser,
  };
}

/**
 * Reads and checks the configuration `file`; `env` is the controller's environment. Rejects with a ControllerError:
 * CONFIG_UNREADABLE, ENVOY_NO_ANSWER, PROCESS_LIMIT, or a ConfigurationError with every problem at once.
 */
export async function preflight(
  file: string,
  env: Environment,
  checks: SystemChecks = systemChecks(),
  missingEnvoy: MissingEnvoy = "problem",
): Promise<Preflight> {
  const parsed = await readConfig(file, env);
  const { config, positions } = parsed;
  const cpus = config.supervisor.pools.some((pool) => pool.replicas === "auto") ? checks.availableCpus() : 1;
  const replicasOf = (pool: { readonly replicas?: number | "auto" | undefined }) =>
    typeof pool.replicas === "number" ? pool.replicas : cpus;
  const problems: ConfigurationProblem[] = [];
  const report = (code: ErrorCode, path: string, message: string, hint?: string) =>
    problems.push({ code, ...positionOf(path, positions), path, message, hint });

  for (const { path, message } of findPortProblems(config, replicasOf)) report("CONFIG_INVALID", path, message);
  const warnings = [...parsed.warnings];
  const ephemeral = checks.ephemeralPorts();
  if (ephemeral !== undefined)
    for (const { path, message } of findEphemeralClaims(config, replicasOf, ephemeral))
      warnings.push({ ...positionOf(path, positions), path, message });
  const { tokenFile } = config.admin;
  if (tokenFile !== undefined) {
    const path = "admin.token_file";
    try {
      const { warning } = await readToken(tokenFile);
      if (warning !== undefined) warnings.push({ ...positionOf(path, positions), path, message: warning });
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      report(error.code, path, error.message, error.hint);
    }
  }
  const launches: LaunchPlan[] = [];
  const envoys: (EnvoyProgram | undefined)[] = [];
  const notes: string[] = [];
  for (const [index, pool] of config.supervisor.pools.entries()) {
    const place = `supervisor.workers[${index}]`;
    const launch = checks.checkLaunch(await launchRequest(pool), env, (key, { code, message, hint }) =>
      report(code, `${place}.${key}`, message, hint),
    );
    if (launch !== undefined) launches.push(launch);
    const needs = launch === undefined ? [] : shimNeeds(pool, launch);
    const obstacles = needs.length === 0 ? [] : checks.shimObstacles(config.supervisor.runtimeDir);
    if (obstacles.length > 0)
      report(
        "SPAWN_SHIM_BLOCKED",
        `${place}.${needs[0]}`,
        `Cannot start pool "${pool.name}": the spawn shim, needed for ${needs.join(", ")}, cannot be executed ${obstacles.join(" or ")}`,
        "Set supervisor.runtime_dir to a directory on a file system without noexec, or allow executable memory (vm.memfd_noexec).",
      );
    const doubts = [
      { path: `${place}.metrics`, message: metricsDoubt(pool, launch) },
      { path: `${place}.oom_score_adj`, message: oomScoreDoubt(pool, checks) },
    ];
    for (const { path, message } of doubts)
      if (message !== undefined) warnings.push({ ...positionOf(path, positions), path, message });
  }
  const identities = launches.flatMap(({ credentials }) => credentials ?? []);
  const uids = new Set(launches.flatMap(({ credentials }) => credentials?.uid ?? []));
  for (const [index, pool] of config.supervisor.pools.entries()) {
    const place = `supervisor.workers[${index}]`;
    const { server } = pool;
    try {
      const binary = server === undefined ? undefined : await checkServer(pool, server, { env, checks, identities });
      // Without the plans of all pools nothing starts, and it is not known whom their workers run as.
      if (server === undefined || binary === undefined || launches.length < config.supervisor.pools.length) {
        envoys.push(undefined);
        continue;
      }
      const workerUid = launches[index]?.credentials?.uid ?? process.getuid?.() ?? 0;
      const wish = { pool: pool.name, user: server.user, file: binary.file, workerUid, uids };
      const { note, warning, ...user } = checks.chooseEnvoyUser(wish);
      envoys.push({ ...binary, ...user });
      if (note !== undefined) notes.push(note);
      if (warning !== undefined) {
        const path = `${place}.server.user`;
        warnings.push({ ...positionOf(path, positions), path, message: warning });
      }
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      const { code, message, hint } = error;
      // Not a problem of the configuration: the same file may pass a moment later.
      if (error.exitCode !== 78) throw error;
      const isNamed = server?.exec !== undefined;
      const key = PLACES_OF_PROXY_ERRORS[code] ?? (isNamed ? ".exec" : "");
      const path = `${place}.server${key}`;
      if (missingEnvoy === "problem" || isNamed || code !== "ENVOY_NOT_FOUND") report(code, path, message, hint);
      else warnings.push({ ...positionOf(path, positions), path, message: `not checked by Envoy: ${message}` });
      envoys.push(undefined);
    }
  }
  const proxied = config.supervisor.pools.flatMap(({ name, server }, index) =>
    server === undefined ? [] : [{ pool: name, uid: envoys[index]?.credentials?.uid }],
  );
  try {
    checks.checkWatches(proxied);
  } catch (error) {
    if (!(error instanceof ControllerError)) throw error;
    const index = config.supervisor.pools.findIndex(({ server }) => server !== undefined);
    report(error.code, `supervisor.workers[${index}].server`, error.message, error.hint);
  }
  if (problems.length > 0) {
    throw new ConfigurationError(
      file,
      problems.toSorted((a, b) => a.line - b.line || a.column - b.column),
    );
  }
  const spec = configToControllerSpec(config, { replicasOf });
  return {
    file,
    config,
    spec,
    launches,
    envoys,
    notes,
    warnings: [...warnings, ...memoryWarnings(spec, positions, checks)].map((warning) => formatProblem(file, warning)),
  };
}

/** Why the metrics of a pool may come out wrong; undefined if nothing hints at that. */
function metricsDoubt({ metrics }: PoolConfig, launch: LaunchPlan | undefined): string | undefined {
  if (metrics === undefined || launch === undefined) return undefined;
  const variable = ["PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"].find((name) => name in launch.env);
  if (variable === undefined) return undefined;
  if (metrics.multiproc) {
    const isReplaced = variable === "PROMETHEUS_MULTIPROC_DIR" && launch.configured.has(variable);
    return isReplaced ? `multiproc replaces the ${variable} of env_file` : undefined;
  }
  if (metricsScope(metrics) === "pool") return undefined;
  return (
    `${variable} is set, so each worker answers for all workers that share the directory, and summing their answers counts ` +
    "everything several times; set metrics.scope to pool, or metrics.multiproc to true"
  );
}

/** Keys of a pool that cannot be carried out without the spawn shim. The default oom_score_adj can be left out. */
function shimNeeds({ oomScoreAdj, sockets, server }: PoolConfig, plan: LaunchPlan): readonly string[] {
  const isOomScoreOwn = !oomScoreAdj.isRelative || oomScoreAdj.value !== DEFAULT_OOM_SCORE_ADJ.value;
  return [
    ...(plan.credentials === undefined ? [] : ["user"]),
    ...(plan.umask === undefined ? [] : ["umask"]),
    ...(plan.nice === undefined ? [] : ["nice"]),
    ...(isOomScoreOwn ? ["oom_score_adj"] : []),
    ...(plan.rlimits.size === 0 ? [] : ["rlimits"]),
    ...(sockets.length === 0 ? [] : ["sockets"]),
    ...(server?.user === undefined ? [] : ["server.user"]),
  ];
}

/** Why the kernel may end the whole service to spare a worker; undefined if nothing hints at that. */
function oomScoreDoubt({ oomScoreAdj }: PoolConfig, checks: SystemChecks): string | undefined {
  const { value, isRelative } = oomScoreAdj;
  const own = isRelative ? 0 : checks.oomScoreAdj();
  if (own === undefined || value >= own) return undefined;
  const below = isRelative
    ? `${value} puts workers below the controller`
    : `${value} is below the controller's own ${own}`;
  return `${below}: when memory runs out, the kernel kills the controller or Envoy first; write "+500", the default`;
}

/** Limits that the kernel will not let workers reach. */
function memoryWarnings(
  spec: ControllerSpec,
  positions: ReadonlyMap<string, Position>,
  checks: SystemChecks,
): readonly Problem[] {
  const boundBytes = memoryNeedOf(spec) === undefined ? undefined : checks.memoryBoundBytes();
  const shortage = boundBytes === undefined ? undefined : describeShortage(spec, boundBytes);
  if (shortage === undefined) return [];
  const index = spec.pools.findIndex(({ name }) => name === shortage.pool?.name);
  const key = spec.pools[index]?.limits.memoryBytes === undefined ? "memory_hard" : "memory";
  const path = `supervisor.workers[${index}].limits.${key}`;
  return [{ ...positionOf(path, positions), path, message: shortage.message }];
}

/** Keys below server of errors that are not about the program of Envoy. */
const PLACES_OF_PROXY_ERRORS: Partial<Record<ErrorCode, string>> = {
  ENVOY_CONFIG_REFUSED: "",
  TLS_FILE_INVALID: ".tls",
  USER_NOT_FOUND: ".user",
  PERMISSION_REQUIRED: ".user",
};

/** Envoy would wait for a pipe, and name no reason. Rejects with a ControllerError TLS_FILE_INVALID. */
async function checkTlsFiles({ name }: PoolConfig, { tls }: ServerConfig, checks: SystemChecks): Promise<void> {
  for (const key of ["cert", "key"] as const) {
    const problem = tls === undefined ? undefined : await checks.fileProblem(tls[key]);
    if (problem !== undefined)
      throw new ControllerError(
        "TLS_FILE_INVALID",
        `Cannot start the proxy of pool "${name}": tls.${key} "${tls?.[key]}" cannot be read: ${problem}`,
      );
  }
}

async function checkServer(
  pool: PoolConfig,
  server: ServerConfig,
  context: { readonly env: Environment; readonly checks: SystemChecks; readonly identities: readonly Identity[] },
): Promise<EnvoyBinary> {
  const { env, checks, identities } = context;
  const { exec } = server;
  const request = { pool: pool.name, exec, path: env["PATH"], ownDirectory: dirname(process.execPath), identities };
  const binary = await checks.findEnvoy(request);
  await checkTlsFiles(pool, server, checks);
  // Envoy looks at the paths only when it serves.
  await checks.checkProxy(binary, proxySettings(pool, server, binary.version), proxyPlaces(server, "/"));
  return binary;
}

async function launchRequest(pool: PoolConfig): Promise<LaunchRequest> {
  const { exec, args, env, envFile, cwd, user, group, umask, nice, oomScoreAdj, rlimits } = pool;
  const commands = PROBE_PURPOSES.flatMap((purpose) => {
    const [program, ...rest] = (pool.probes?.[purpose]?.exec ?? []).map(templateText);
    return program === undefined ? [] : [{ key: `probes.${purpose}.exec`, program, args: rest } as const];
  });
  const variables = Object.fromEntries(Object.entries(env).map(([name, value]) => [name, templateText(value)]));
  return {
    pool: pool.name,
    exec,
    args: args.map(templateText),
    commands,
    env: variables,
    envFile: envFile === undefined ? undefined : { path: envFile, content: await contentOf(envFile) },
    cwd,
    user,
    group,
    umask,
    nice,
    oomScoreAdj,
    rlimits,
  };
}

async function contentOf(path: string): Promise<Uint8Array | FileError> {
  try {
    return (await readWholeFile(path)).bytes;
  } catch (error) {
    if (error instanceof FileError) return error;
    throw error;
  }
}

/** Where the key stands, or the nearest block around it that is in the file. */
function positionOf(path: string, positions: ReadonlyMap<string, Position>): Position {
  for (let at = path; at !== ""; at = at.slice(0, Math.max(at.lastIndexOf("."), at.lastIndexOf("["), 0))) {
    const position = positions.get(at);
    if (position !== undefined) return position;
  }
  return { line: 1, column: 1 };
}
