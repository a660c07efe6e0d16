/**
 * Everything about a configuration that can be wrong, found before anything starts and reported at once: the file, keys
 * this version cannot honour, ports with the real number of replicas, executables, directories and users. `validate` and
 * `run` share it, so they never disagree. Unlike the rest of cli it may import runtime (launch plans, number of CPUs).
 */
import { readToken } from "../admin/tokenFile.ts";
import { ControllerError, type ErrorCode } from "../base/errors.ts";
import type { Config, PoolConfig } from "../config/config.ts";
import { formatProblem, type Position } from "../config/load.ts";
import { findPortProblems } from "../config/ports.ts";
import { configToControllerSpec } from "../config/spec.ts";
import { findUnsupported } from "../config/unsupported.ts";
import type { Environment } from "../config/variables.ts";
import type { ControllerSpec } from "../core/spec.ts";
import { availableCpus } from "../runtime/cpus.ts";
import { type LaunchPlan, type LaunchRequest, planLaunch } from "../runtime/launch.ts";
import { ConfigurationError, type ConfigurationProblem, readConfig } from "./configFile.ts";

/** A configuration that may be run. */
export interface Preflight {
  /** The file as it was named. */
  readonly file: string;
  readonly config: Config;
  readonly spec: ControllerSpec;
  /** One for each pool, in their order. */
  readonly launches: readonly LaunchPlan[];
  /** What is doubtful but no obstacle, one line each. */
  readonly warnings: readonly string[];
}

/** What the system says about a configuration; the real system unless a test plays it. */
export interface SystemChecks {
  availableCpus(): number;
  /** @throws ControllerError where the pool cannot be started. */
  checkLaunch(request: LaunchRequest, env: NodeJS.ProcessEnv): LaunchPlan;
}

const REAL_CHECKS: SystemChecks = { availableCpus: () => availableCpus(), checkLaunch: planLaunch };

/**
 * Reads and checks the configuration `file`; `env` is the controller's environment.
 * @throws ControllerError CONFIG_UNREADABLE; ConfigurationError with every problem at once
 */
export function preflight(file: string, env: Environment, checks: SystemChecks = REAL_CHECKS): Preflight {
  const parsed = readConfig(file, env);
  const { config, positions } = parsed;
  const cpus = config.supervisor.pools.some((pool) => pool.replicas === "auto") ? checks.availableCpus() : 1;
  const replicasOf = (pool: { readonly replicas?: number | "auto" | undefined }) =>
    typeof pool.replicas === "number" ? pool.replicas : cpus;
  const problems: ConfigurationProblem[] = [];
  const report = (code: ErrorCode, path: string, message: string, hint?: string) =>
    problems.push({ code, ...positionOf(path, positions), path, message, hint });

  for (const { path, reason } of findUnsupported(config, positions)) {
    report("NOT_YET_SUPPORTED", path, `not supported yet: ${reason}`);
  }
  for (const { path, message } of findPortProblems(config, replicasOf)) report("CONFIG_INVALID", path, message);
  const { tokenFile } = config.admin;
  const warnings = parsed.warnings.map((warning) => formatProblem(file, warning));
  if (tokenFile !== undefined) {
    try {
      const { warning } = readToken(tokenFile);
      if (warning !== undefined) warnings.push(warning);
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      report(error.code, "admin.token_file", error.message, error.hint);
    }
  }
  const launches: LaunchPlan[] = [];
  for (const [index, pool] of config.supervisor.pools.entries()) {
    try {
      launches.push(checks.checkLaunch(launchRequest(pool), env));
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      const path = `supervisor.workers[${index}]`;
      report(error.code, `${path}.${keyOf(error.code, pool)}`, error.message, error.hint);
    }
  }
  if (problems.length > 0) {
    throw new ConfigurationError(
      file,
      problems.toSorted((a, b) => a.line - b.line || a.column - b.column),
    );
  }
  const spec = configToControllerSpec(config, { replicasOf });
  return { file, config, spec, launches, warnings };
}

function launchRequest(pool: PoolConfig): LaunchRequest {
  const { exec, env, envFile, cwd, user, group, umask, nice, oomScoreAdj, rlimits } = pool;
  return { pool: pool.name, exec, env, envFile, cwd, user, group, umask, nice, oomScoreAdj, rlimits };
}

/** The key an error of a launch plan is about. */
function keyOf(code: ErrorCode, pool: PoolConfig): string {
  switch (code) {
    case "CWD_NOT_FOUND":
      return "cwd";
    case "ENV_FILE_INVALID":
      return "env_file";
    case "USER_NOT_FOUND":
    case "PERMISSION_REQUIRED":
      return pool.user === undefined ? "group" : "user";
    default:
      return "exec";
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
