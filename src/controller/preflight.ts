/**
 * Finds every problem of a configuration before anything starts, and reports all at once: the file, ports with the real
 * number of replicas, executables, directories and users. `validate` and `run` share it, so they never disagree.
 */
import { dirname } from "node:path";
import { readToken } from "../admin/http/tokenFile.ts";
import { ControllerError, type ErrorCode } from "../base/errors.ts";
import type { Config, PoolConfig, ServerConfig } from "../config/config.ts";
import { DEFAULT_OOM_SCORE_ADJ } from "../config/keys/oomScore.ts";
import { formatProblem, type Position, type Problem } from "../config/load.ts";
import { findEphemeralClaims, findPortProblems } from "../config/ports.ts";
import { programOf } from "../config/program.ts";
import { configToControllerSpec, metricsScope } from "../config/spec.ts";
import { templateText } from "../config/template.ts";
import type { Environment } from "../config/variables.ts";
import { describeShortage, memoryNeedOf } from "../core/policy/memoryNeed.ts";
import { PROBE_PURPOSES } from "../core/policy/probe.ts";
import type { ControllerSpec } from "../core/spec.ts";
import type { EnvoyBinary } from "../envoy/control/binary.ts";
import type { Identity } from "../files/inspectPath.ts";
import { FileError, readWholeFile } from "../files/readFile.ts";
import type { EnvoyUser } from "../runtime/process/envoyUser.ts";
import type { LaunchKey, LaunchPlan, LaunchRequest } from "../runtime/process/launch.ts";
import {
  type ConfigSource,
  ConfigurationError,
  type ConfigurationProblem,
  nameOf,
  type ReadConfig,
  readConfig,
} from "./configFile.ts";
import { logFileConflicts } from "./logFileChecks.ts";
import { programTraps } from "./programTraps.ts";
import { proxyPlaces, proxySettings } from "./proxySettings.ts";
import { type SystemChecks, systemChecks } from "./systemChecks.ts";

/** A configuration that may be run. */
export interface Preflight {
  /** The file as it was named, or what messages call a configuration that has no file. */
  readonly file: string;
  readonly config: Config;
  readonly spec: ControllerSpec;
  /** One for each pool, in their order. */
  readonly launches: readonly LaunchPlan[];
  /** One for each pool, in their order; undefined if it has no server. */
  readonly envoys: readonly (EnvoyProgram | undefined)[];
  /** Doubtful settings that do not prevent a start, one line each. */
  readonly warnings: readonly string[];
  /** Normal facts that are worth knowing at a start, one line each. */
  readonly notes: readonly string[];
}

/** An Envoy and the user that it runs as. */
export type EnvoyProgram = EnvoyBinary & Pick<EnvoyUser, "credentials" | "mayLink">;

/**
 * Severity of a missing Envoy: a configuration may be validated on a machine without Envoy. A missing Envoy that
 * server.exec names is always a problem, like a missing executable of a pool.
 */
export type MissingEnvoy = "problem" | "warning";

/** What the checks have found so far. */
class Findings {
  readonly problems: ConfigurationProblem[] = [];
  readonly warnings: (Position & { readonly path: string; readonly message: string })[];
  readonly notes: string[] = [];
  readonly #positions: ReadConfig["positions"];

  constructor({ positions, warnings }: ReadConfig) {
    this.#positions = positions;
    this.warnings = [...warnings];
  }

  report(code: ErrorCode, path: string, message: string, hint?: string): void {
    this.problems.push({ code, ...positionOf(path, this.#positions), path, message, hint });
  }

  warn(path: string, message: string | undefined): void {
    if (message !== undefined) this.warnings.push({ ...positionOf(path, this.#positions), path, message });
  }
}

/** What all checks of one configuration need. */
interface Inquiry {
  readonly config: Config;
  readonly env: Environment;
  readonly checks: SystemChecks;
  readonly missingEnvoy: MissingEnvoy;
  readonly found: Findings;
}

/**
 * Reads and checks the configuration `source`, as `adapt` changes it; `env` is the controller's environment. Rejects with a
 * ControllerError:
 * CONFIG_UNREADABLE, ENVOY_NO_ANSWER, PROCESS_LIMIT, or a ConfigurationError with every problem at once.
 */
export async function preflight(
  source: ConfigSource,
  env: Environment,
  checks: SystemChecks = systemChecks(),
  missingEnvoy: MissingEnvoy = "problem",
  adapt: (config: Config) => Config = (config) => config,
): Promise<Preflight> {
  const file = nameOf(source);
  const parsed = await readConfig(source, env);
  const { positions } = parsed;
  const config = adapt(parsed.config);
  const found = new Findings(parsed);
  const inquiry = { config, env, checks, missingEnvoy, found };
  const cpus = config.supervisor.pools.some((pool) => pool.replicas === "auto") ? checks.availableCpus() : 1;
  const replicasOf: ReplicasOf = ({ replicas }) => (typeof replicas === "number" ? replicas : cpus);
  checkPorts(inquiry, replicasOf);
  await checkToken(inquiry);
  const launches = await checkLaunches(inquiry);
  const envoys = await checkEnvoys(inquiry, launches);
  checkWatches(inquiry, envoys);
  checkLogFiles(inquiry, launches);
  if (found.problems.length > 0) throw new ConfigurationError(file, found.problems.toSorted(byPosition));
  const spec = configToControllerSpec(config, replicasOf);
  const warnings = [...found.warnings, ...memoryWarnings(spec, positions, checks)];
  return {
    file,
    config,
    spec,
    launches,
    envoys,
    notes: found.notes,
    warnings: warnings.toSorted(byPosition).map((warning) => formatProblem(file, warning)),
  };
}

type ReplicasOf = (pool: { readonly replicas?: number | "auto" | undefined }) => number;

function checkPorts({ config, checks, found }: Inquiry, replicasOf: ReplicasOf): void {
  for (const { path, message } of findPortProblems(config, replicasOf)) found.report("CONFIG_INVALID", path, message);
  const ephemeral = checks.ephemeralPorts();
  if (ephemeral === undefined) return;
  for (const { path, message } of findEphemeralClaims(config, replicasOf, ephemeral)) found.warn(path, message);
}

async function checkToken({ config, found }: Inquiry): Promise<void> {
  const { tokenFile } = config.admin;
  if (tokenFile === undefined) return;
  const path = "admin.token_file";
  try {
    found.warn(path, (await readToken(tokenFile)).warning);
  } catch (error) {
    if (!(error instanceof ControllerError)) throw error;
    found.report(error.code, path, error.message, error.hint);
  }
}

/** The launch plans of all pools that have one, in their order. */
async function checkLaunches({ config, env, checks, found }: Inquiry): Promise<readonly LaunchPlan[]> {
  const launches: LaunchPlan[] = [];
  for (const [index, pool] of config.supervisor.pools.entries()) {
    const place = `supervisor.workers[${index}]`;
    const launch = checks.checkLaunch(await launchRequest(pool), env, (key, { code, message, hint }) =>
      found.report(code, `${place}.${keyInFile(pool, key)}`, message, hint),
    );
    if (launch !== undefined) launches.push(launch);
    const needs = launch === undefined ? [] : shimNeeds(pool, launch);
    const obstacles = needs.length === 0 ? [] : checks.shimObstacles(config.supervisor.runtimeDir);
    if (obstacles.length > 0)
      found.report(
        "SPAWN_SHIM_BLOCKED",
        `${place}.${needs[0]}`,
        `Cannot start pool "${pool.name}": the spawn shim, needed for ${needs.join(", ")}, cannot be executed ${obstacles.join(" or ")}`,
        "Set supervisor.runtime_dir to a directory on a file system without noexec, or allow executable memory (vm.memfd_noexec).",
      );
    found.warn(`${place}.metrics`, metricsDoubt(pool, launch));
    found.warn(`${place}.oom_score_adj`, oomScoreDoubt(pool, checks));
    for (const { path, message } of launch === undefined ? [] : programTraps(pool, launch))
      found.warn(`${place}.${path}`, message);
  }
  return launches;
}

/** The Envoy of each pool, in the order of the pools. */
async function checkEnvoys(
  inquiry: Inquiry,
  launches: readonly LaunchPlan[],
): Promise<readonly (EnvoyProgram | undefined)[]> {
  const { config, missingEnvoy, found } = inquiry;
  const envoys: (EnvoyProgram | undefined)[] = [];
  for (const [index, pool] of config.supervisor.pools.entries()) {
    const { server } = pool;
    const place = `supervisor.workers[${index}].server`;
    try {
      envoys.push(server === undefined ? undefined : await checkEnvoy(inquiry, launches, index, pool, server));
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      const { code, message, hint } = error;
      // Not a problem of the configuration: the same file may pass a moment later.
      if (error.exitCode !== 78) throw error;
      const isNamed = server?.exec !== undefined;
      const path = `${place}${PLACES_OF_PROXY_ERRORS[code] ?? (isNamed ? ".exec" : "")}`;
      if (missingEnvoy === "problem" || isNamed || code !== "ENVOY_NOT_FOUND") found.report(code, path, message, hint);
      else found.warn(path, `not checked by Envoy: ${message}`);
      envoys.push(undefined);
    }
  }
  return envoys;
}

/** The Envoy of one pool; undefined if nothing starts anyway. Rejects with a ControllerError. */
async function checkEnvoy(
  { config, env, checks, found }: Inquiry,
  launches: readonly LaunchPlan[],
  index: number,
  pool: PoolConfig,
  server: ServerConfig,
): Promise<EnvoyProgram | undefined> {
  const identities = launches.flatMap(({ credentials }) => credentials ?? []);
  const binary = await checkServer(pool, server, { env, checks, identities });
  // Without the plans of all pools nothing starts, and the users of their workers are unknown.
  if (binary === undefined || launches.length < config.supervisor.pools.length) return undefined;
  const workerUid = launches[index]?.credentials?.uid ?? process.getuid?.() ?? 0;
  const uids = new Set(identities.map(({ uid }) => uid));
  const wish = { pool: pool.name, user: server.user, file: binary.file, workerUid, uids };
  const { note, warning, ...user } = checks.chooseEnvoyUser(wish);
  if (note !== undefined) found.notes.push(note);
  found.warn(`supervisor.workers[${index}].server.user`, warning);
  return { ...binary, ...user };
}

function checkWatches({ config, checks, found }: Inquiry, envoys: readonly (EnvoyProgram | undefined)[]): void {
  const { pools } = config.supervisor;
  const proxied = pools.flatMap(({ name, server }, index) =>
    server === undefined ? [] : [{ pool: name, uid: envoys[index]?.credentials?.uid }],
  );
  try {
    checks.checkWatches(proxied);
  } catch (error) {
    if (!(error instanceof ControllerError)) throw error;
    const index = pools.findIndex(({ server }) => server !== undefined);
    found.report(error.code, `supervisor.workers[${index}].server`, error.message, error.hint);
  }
}

function checkLogFiles({ config, checks, found }: Inquiry, launches: readonly LaunchPlan[]): void {
  const { pools } = config.supervisor;
  const identities = launches.flatMap(({ credentials }) => credentials ?? []);
  const report = (index: number, message: string, hint?: string) => {
    const file = pools[index]?.logs.file;
    const place = `supervisor.workers[${index}].logs.file.path`;
    found.report("LOG_FILE_UNUSABLE", place, `cannot use log file "${file?.path}": ${message}`, hint);
  };
  for (const [index, { logs }] of pools.entries()) {
    const problem = logs.file === undefined ? undefined : checks.logFileProblem(logs.file.path, identities);
    if (problem !== undefined) report(index, problem.message, problem.hint);
  }
  for (const { pool, message } of logFileConflicts(pools)) report(pool, message);
}

/** Why the metrics of a pool may be wrong; undefined if nothing indicates that. */
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

/** Keys of a pool that have no effect without the spawn shim. The default oom_score_adj can be left out. */
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

/** Why the kernel may kill the whole service instead of a worker; undefined if nothing indicates that. */
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

/** Envoy would wait indefinitely for a pipe, without an error. Rejects with a ControllerError TLS_FILE_INVALID. */
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
  // Envoy checks the paths only when it serves.
  await checks.checkProxy(binary, proxySettings(pool, server, binary.version), proxyPlaces(server, "/"));
  return binary;
}

function keyInFile({ command }: PoolConfig, key: LaunchKey): string {
  return command !== undefined && (key === "exec" || key === "args") ? "command" : key;
}

async function launchRequest(pool: PoolConfig): Promise<LaunchRequest> {
  const commands = PROBE_PURPOSES.flatMap((purpose) => {
    const [program, ...rest] = (pool.probes?.[purpose]?.exec ?? []).map(templateText);
    return program === undefined ? [] : [{ key: `probes.${purpose}.exec`, program, args: rest } as const];
  });
  const { env, envFile } = pool;
  const { exec, args } = programOf(pool);
  return {
    ...pool,
    pool: pool.name,
    exec,
    args: args.map(templateText),
    commands,
    env: Object.fromEntries(Object.entries(env).map(([name, value]) => [name, templateText(value)])),
    envFile: envFile === undefined ? undefined : { path: envFile, content: await contentOf(envFile) },
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

function byPosition(a: Position, b: Position): number {
  return a.line - b.line || a.column - b.column;
}

/** Position of the key, or of the nearest enclosing block in the file. */
function positionOf(path: string, positions: ReadonlyMap<string, Position>): Position {
  for (let at = path; at !== ""; at = at.slice(0, Math.max(at.lastIndexOf("."), at.lastIndexOf("["), 0))) {
    const position = positions.get(at);
    if (position !== undefined) return position;
  }
  return { line: 1, column: 1 };
}
