/**
 * Turns a pool's configuration into a launch plan: finds the executable, reads env_file, resolves users. Checks all of
 * it before anything starts. Independent of worker states.
 */
import { readFileSync, type Stats, statSync } from "node:fs";
import { isAbsolute, join, resolve } from "node:path";
import { ControllerError } from "../../base/errors.ts";
import { decodeOsText } from "../../base/osText.ts";
import { isExecutable } from "../../files/executable.ts";
import { FileError } from "../../files/readFile.ts";
import { findProgramProblem } from "../inspect/interpreter.ts";
import { findExecLimitProblem } from "../os/execLimits.ts";
import { getLimit, RLIMITS } from "../os/linux.ts";
import { parseEnvFile } from "./envFile.ts";
import type { Credentials, LimitSetting, OomScore } from "./spawnShim.ts";

type CommandKey = `probes.${"startup" | "readiness" | "liveness"}.exec`;

/** Keys of a pool that may refer to something missing on this system. */
export type LaunchKey = "exec" | "args" | "cwd" | "env" | "env_file" | "user" | "group" | CommandKey;

/** Called for each problem, with the invalid key. */
export type OnLaunchProblem = (key: LaunchKey, error: ControllerError) => void;

/** The content of an env_file, or the error from reading it. */
export interface EnvFile {
  readonly path: string;
  readonly content: Uint8Array | FileError;
}

/** The launch settings of a pool, as configured. */
export interface LaunchRequest {
  readonly pool: string;
  readonly exec: string;
  readonly args: readonly string[];
  /** Further programs that run beside workers, specified like `exec`, and the keys that name them. */
  readonly commands: readonly {
    readonly key: CommandKey;
    readonly program: string;
    readonly args: readonly string[];
  }[];
  readonly env: Readonly<Record<string, string>>;
  readonly envFile: EnvFile | undefined;
  readonly cwd: string | undefined;
  readonly user: string | undefined;
  readonly group: string | undefined;
  readonly umask: number | undefined;
  readonly nice: number | undefined;
  readonly oomScoreAdj: OomScore | undefined;
  readonly rlimits: Readonly<Record<string, LimitSetting>>;
}

/** Launch settings shared by all workers of a pool. */
export interface LaunchPlan {
  readonly file: string;
  /** Absolute paths of the further programs, by their configured names. */
  readonly commands: ReadonlyMap<string, string>;
  /** The environment without slot-specific variables. */
  readonly env: Readonly<Record<string, string>>;
  /** Names of the variables that `env` or `env_file` sets, as opposed to inherited ones. */
  readonly configured: ReadonlySet<string>;
  readonly cwd: string | undefined;
  readonly credentials: Credentials | undefined;
  readonly umask: number | undefined;
  readonly nice: number | undefined;
  readonly oomScoreAdj: OomScore | undefined;
  readonly rlimits: ReadonlyMap<string, LimitSetting>;
}

/**
 * Checks and resolves the launch settings of a pool; undefined if there is a problem. `environment` is the controller's
 * own; variables that are meant for the controller alone are not passed on. Reports every problem: EXEC_NOT_FOUND,
 * EXEC_NOT_EXECUTABLE, INTERPRETER_NOT_FOUND, CWD_NOT_FOUND, ENV_FILE_INVALID, USER_NOT_FOUND, PERMISSION_REQUIRED,
 * ARGUMENTS_TOO_LONG.
 */
export function planLaunch(
  request: LaunchRequest,
  environment: NodeJS.ProcessEnv,
  onProblem: OnLaunchProblem,
): LaunchPlan | undefined {
  let isRefused = false;
  const refuse = (key: LaunchKey, error: ControllerError) => {
    isRefused = true;
    onProblem(key, error);
  };
  const attempt = <T>(key: LaunchKey, act: () => T): T | undefined => {
    try {
      return act();
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      refuse(key, error);
      return undefined;
    }
  };
  const { pool, cwd, user, group } = request;
  const isThere = cwd === undefined || isDirectory(cwd);
  if (!isThere)
    refuse("cwd", new ControllerError("CWD_NOT_FOUND", `Cannot start pool "${pool}": cwd "${cwd}" is not a directory`));
  const entry = user === undefined ? undefined : attempt("user", () => findUser(pool, user));
  const gid = group === undefined ? undefined : attempt("group", () => findGroup(pool, group));
  // If one of them is unknown, the permission to use both cannot be checked.
  const isKnown = (user === undefined || entry !== undefined) && (group === undefined || gid !== undefined);
  const changer = user === undefined ? "group" : "user";
  const account = isKnown ? attempt(changer, () => findAccount(request, entry, gid)) : undefined;
  const fromFile = readEnvFile(request, environment, (error) => refuse("env_file", error));
  const inherited = Object.entries(environment).flatMap(([key, value]) =>
    value === undefined || CONTROLLER_ONLY.has(key) ? [] : [[key, value] as const],
  );
  const configured = [...fromFile, ...Object.entries(request.env)];
  // Defines properties, so that __proto__ is an ordinary variable.
  const env = Object.fromEntries([...inherited, ...Object.entries(account?.env ?? {}), ...configured]);
  // A relative path cannot be resolved if cwd does not exist.
  const find = (key: LaunchKey, program: string) =>
    isThere || isAbsolute(program) || !program.includes("/")
      ? attempt(key, () => {
          const file = findExecutable(request, program, env["PATH"]);
          checkProgram(request, program, file, env["PATH"]);
          return file;
        })
      : undefined;
  const file = find("exec", request.exec);
  const commands = new Map<string, string>();
  for (const { key, program } of request.commands) {
    const found = find(key, program);
    if (found !== undefined) commands.set(program, found);
  }
  const stackBytes = stackLimit(request);
  for (const { key, args } of [{ key: "args", args: request.args } as const, ...request.commands]) {
    const problem = findExecLimitProblem(args, env, stackBytes);
    if (problem === undefined) continue;
    const { text, hint } = problem;
    refuse(
      problem.key === "env" ? "env" : key,
      new ControllerError("ARGUMENTS_TOO_LONG", `Cannot start pool "${pool}": ${text}`, { hint }),
    );
    if (problem.key === "env") break;
  }
  if (isRefused || file === undefined) return undefined;
  return {
    file,
    commands,
    env,
    configured: new Set(configured.map(([key]) => key)),
    cwd: cwd === undefined ? undefined : resolve(cwd),
    credentials: account?.credentials,
    umask: request.umask,
    nice: request.nice,
    oomScoreAdj: request.oomScoreAdj,
    rlimits: new Map(Object.entries(request.rlimits)),
  };
}

/** The soft stack limit at execve(2): the smaller of the controller's and the pool's. */
function stackLimit({ rlimits }: LaunchRequest): number | "unlimited" {
  const own = getLimit(0, RLIMITS["stack"] ?? 3).soft;
  const configured = rlimits["stack"]?.soft ?? "unlimited";
  if (own === "unlimited" || configured === "unlimited") return own === "unlimited" ? configured : own;
  return Math.min(own, configured);
}

/** Only the controller uses its own manager's protocols: a worker would report on its behalf. The descriptors are not inherited. */
const CONTROLLER_ONLY: ReadonlySet<string> = new Set([
  "NOTIFY_SOCKET",
  "WATCHDOG_USEC",
  "WATCHDOG_PID",
  "LISTEN_FDS",
  "LISTEN_PID",
  "LISTEN_FDNAMES",
  "EINHORN_MASTER_PID",
  "EINHORN_SOCK_PATH",
  "EINHORN_FD_COUNT",
  // Also a descriptor, from a Node.js parent.
  "NODE_CHANNEL_FD",
]);

/** undefined: no such file. hidden: this user may not access it (PATH often contains such directories). */
function lookAt(path: string): Stats | "hidden" | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return "hidden";
  }
}

function isFile(found: Stats | "hidden" | undefined): boolean {
  return typeof found === "object" && found.isFile();
}

function isDirectory(path: string): boolean {
  const found = lookAt(path);
  return typeof found === "object" && found.isDirectory();
}

/**
 * The absolute path of a command that a pool uses, as a shell in the pool's directory would find it; `path` is PATH.
 * @throws ControllerError EXEC_NOT_FOUND, EXEC_NOT_EXECUTABLE
 */
function findExecutable(
  { pool, cwd }: LaunchRequest,
  exec: string,
  path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
): string {
  if (exec.includes("/")) {
    // Relative to the pool's directory, as in a shell.
    const file = isAbsolute(exec) ? exec : resolve(cwd ?? ".", exec);
    if (isExecutable(file)) return file;
    const there = lookAt(file);
    if (there === undefined) {
      throw new ControllerError(
        "EXEC_NOT_FOUND",
        `Cannot start pool "${pool}": executable "${exec}" does not exist (looked for ${file})`,
        { hint: commandLineHint(exec) },
      );
    }
    const what =
      there === "hidden" ? "cannot be reached by this user" : isFile(there) ? "may not be executed" : "is not a file";
    const hint = isFile(there) ? `chmod +x ${file}` : undefined;
    throw new ControllerError("EXEC_NOT_EXECUTABLE", `Cannot start pool "${pool}": "${exec}" ${what}`, { hint });
  }
  let refused: string | undefined;
  for (const directory of path.split(":")) {
    const file = join(directory === "" ? "." : directory, exec);
    if (isExecutable(file)) return resolve(file);
    if (isFile(lookAt(file))) refused ??= file;
  }
  if (refused !== undefined) {
    throw new ControllerError("EXEC_NOT_EXECUTABLE", `Cannot start pool "${pool}": "${refused}" may not be executed`, {
      hint: `chmod +x ${refused}`,
    });
  }
  throw new ControllerError(
    "EXEC_NOT_FOUND",
    `Cannot start pool "${pool}": executable "${exec}" is not on PATH (${path})`,
    { hint: commandLineHint(exec) ?? "Install it, or give its path in exec." },
  );
}

/** Hint for an `exec` that is a whole command line; undefined if it is one word. */
function commandLineHint(exec: string): string | undefined {
  const [program = "", ...args] = exec.trim().split(/\s+/u);
  if (args.length === 0) return undefined;
  const isShell = /["'\\$`|&;<>()*]/u.test(exec);
  const written = isShell ? `[-c, ${JSON.stringify(exec)}]` : `[${args.map((arg) => JSON.stringify(arg)).join(", ")}]`;
  return `exec is the program alone: write exec: ${isShell ? "/bin/sh" : program} and args: ${written}`;
}

/** @throws ControllerError INTERPRETER_NOT_FOUND, EXEC_NOT_EXECUTABLE */
function checkProgram({ pool, cwd }: LaunchRequest, program: string, file: string, path: string | undefined): void {
  const problem = findProgramProblem(file, { cwd: resolve(cwd ?? "."), path });
  if (problem === undefined) return;
  const { kind, text, hint } = problem;
  throw new ControllerError(
    kind === "missing" ? "INTERPRETER_NOT_FOUND" : "EXEC_NOT_EXECUTABLE",
    `Cannot start pool "${pool}": "${program}" ${text}`,
    { hint },
  );
}

/** The variables of env_file; each problem in it is passed to `onProblem`. */
function readEnvFile(
  { pool, envFile }: LaunchRequest,
  environment: NodeJS.ProcessEnv,
  onProblem: (error: ControllerError) => void,
): ReadonlyMap<string, string> {
  if (envFile === undefined) return new Map();
  const refuse = (message: string, cause?: unknown) =>
    onProblem(new ControllerError("ENV_FILE_INVALID", `Cannot start pool "${pool}": ${message}`, { cause }));
  const { path, content } = envFile;
  if (content instanceof FileError) {
    refuse(`env_file "${path}" cannot be read: ${content.message}`, content);
    return new Map();
  }
  const parsed = parseEnvFile(decodeOsText(content), environment);
  if (parsed.ok) return parsed.variables;
  for (const { line, message } of parsed.problems) refuse(`${path}:${line}: ${message}`);
  return new Map();
}

interface Account {
  readonly credentials: Credentials;
  readonly env: Record<string, string>;
}

/** Resolves `user`, a name or a number, to its ids. @throws ControllerError USER_NOT_FOUND */
export function resolveUser(pool: string, user: string): Pick<Credentials, "uid" | "gid" | "groups"> {
  const { uid, gid, name } = findUser(pool, user);
  return { uid, gid, groups: name === undefined ? [gid] : [...new Set([gid, ...groupsOf(name)])] };
}

/** `entry` is the resolved `user`, `ownGid` the resolved `group`; undefined if not configured. */
function findAccount(
  { pool, user, group }: LaunchRequest,
  entry: UserEntry | undefined,
  ownGid: number | undefined,
): Account | undefined {
  if (user === undefined && group === undefined) return undefined;
  const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const uid = entry?.uid ?? own.uid;
  const gid = ownGid ?? entry?.gid ?? own.gid;
  if (own.uid !== 0) {
    if (uid === own.uid && gid === own.gid) return undefined;
    const wanted = [user, group].filter((name) => name !== undefined).join(":");
    throw new ControllerError(
      "PERMISSION_REQUIRED",
      `Cannot start pool "${pool}" as "${wanted}": the controller runs as uid ${own.uid}, only root may change identity`,
    );
  }
  const groups = entry?.name === undefined ? [gid] : [...new Set([gid, ...groupsOf(entry.name)])];
  const env: Record<string, string> = {};
  if (entry?.name !== undefined) Object.assign(env, { USER: entry.name, LOGNAME: entry.name, HOME: entry.home ?? "/" });
  return { credentials: { uid, gid, groups }, env };
}

function readTable(path: string): string[][] {
  try {
    return readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.split(":"));
  } catch {
    return [];
  }
}

interface UserEntry {
  readonly uid: number;
  readonly gid: number;
  /** Present if the user is in /etc/passwd. */
  readonly name?: string;
  readonly home?: string;
}

function findUser(pool: string, user: string): UserEntry {
  const line = readTable("/etc/passwd").find(([name, , uid]) => name === user || uid === user);
  if (line !== undefined)
    return { name: line[0] ?? user, uid: Number(line[2]), gid: Number(line[3]), home: line[5] ?? "/" };
  if (/^\d+$/u.test(user)) return { uid: Number(user), gid: Number(user) };
  throw new ControllerError("USER_NOT_FOUND", `Cannot start pool "${pool}": user "${user}" is not in /etc/passwd`);
}

function findGroup(pool: string, group: string): number {
  const line = readTable("/etc/group").find(([name]) => name === group);
  if (line !== undefined) return Number(line[2]);
  if (/^\d+$/u.test(group)) return Number(group);
  throw new ControllerError("USER_NOT_FOUND", `Cannot start pool "${pool}": group "${group}" is not in /etc/group`);
}

function groupsOf(user: string): number[] {
  return readTable("/etc/group")
    .filter((line) => line[3]?.split(",").includes(user) === true)
    .map((line) => Number(line[2]));
}
