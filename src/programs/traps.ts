/** Settings of a pool that its program turns into a trap: what happens, and what to write instead. */
import { formatDuration } from "../base/units.ts";
import { type FoundOption, findFlags, findOptions } from "./options.ts";
import { type Recognised, recognise } from "./recognise.ts";

/** What a pool is, as far as traps depend on it. Values of variables are needed, but are never in a message. */
export interface PoolFacts {
  /** The program and its arguments, with templates as written. */
  readonly words: readonly string[];
  /** The environment of a worker, and the names that the configuration itself sets. */
  readonly env: Readonly<Record<string, string>>;
  readonly configured: ReadonlySet<string>;
  readonly hasManyWorkers: boolean;
  readonly mode: "proxy" | "sockets" | "own";
  readonly stopSignal: string;
  readonly stopSignalTarget: "group" | "leader";
  /** How long Envoy keeps an idle connection; undefined without a proxy. */
  readonly workerKeepaliveMs: number | undefined;
}

export interface Trap {
  /** The index of a word, or a key of the pool. */
  readonly at: number | "stop_signal" | "stop_signal_target" | "env" | "server.worker_keepalive";
  readonly message: string;
}

/** A pool whose program is known, with the program's arguments. */
interface KnownPool extends PoolFacts, Recognised {
  /** Index of the first argument of the program. */
  readonly from: number;
}

/** Every trap of a pool; none if its program is not known. */
export function findTraps(facts: PoolFacts): readonly Trap[] {
  const recognised = recognise(facts.words);
  if (recognised === undefined) return [];
  const env = { ...facts.env, ...recognised.env };
  const known: KnownPool = { ...facts, ...recognised, env, from: recognised.at + 1 };
  return RULES.flatMap((rule) => rule(known));
}

const RULES: readonly ((known: KnownPool) => readonly Trap[])[] = [
  stopSignalTraps,
  uwsgiTraps,
  reloadTraps,
  daemonTraps,
  ownWorkerTraps,
  reusePortTraps,
  keepAliveTraps,
  descriptorTraps,
  launcherTraps,
  hostnameTraps,
];

function stopSignalTraps({ program, stopSignal }: KnownPool): readonly Trap[] {
  const { name, stop } = program;
  if (stop === undefined || stopSignal !== "SIGTERM") return [];
  return [
    {
      at: "stop_signal",
      message: `${name} ${stop.onTerm} when it receives SIGTERM; write stop_signal: ${stop.signal}`,
    },
  ];
}

/** Its own signals for a stop are INT and QUIT. With a configuration file, the option may be in there. */
function uwsgiTraps({ program, words, env, from, at, stopSignal }: KnownPool): readonly Trap[] {
  if (program.name !== "uwsgi" || stopSignal !== "SIGTERM" || env["UWSGI_DIE_ON_TERM"] !== undefined) return [];
  const isConfigured = words.slice(from).some((word) => /\.(?:ini|xml|ya?ml|json)(?::|$)/u.test(word));
  if (isConfigured || findFlags(words, ["--die-on-term"], from).length > 0) return [];
  return [
    {
      at,
      message: "uwsgi reloads on SIGTERM instead of exiting, so every stop ends with SIGKILL; add --die-on-term",
    },
  ];
}

function reloadTraps({ program, words, from }: KnownPool): readonly Trap[] {
  return findFlags(words, program.reloadOptions ?? [], from).map(({ index, name }) => ({
    at: index,
    message: `${name} makes ${program.name} restart its own processes when files change, all at once and outside the rolling restart; remove it in production`,
  }));
}

function daemonTraps({ program, words, from }: KnownPool): readonly Trap[] {
  return findFlags(words, program.daemonOptions ?? [], from).map(({ index, name }) => ({
    at: index,
    message: `${name} makes ${program.name} continue in the background and its first process exit, which counts as a crash; remove it`,
  }));
}

function ownWorkerTraps({ program, words, env, from, hasManyWorkers }: KnownPool): readonly Trap[] {
  const { workers } = program;
  if (workers === undefined || !hasManyWorkers) return [];
  const given = findOptions(words, workers.options, from);
  const multiplied = (what: string) =>
    `${what} makes each of the pool's workers a ${program.name} with several processes, which Monoceros can neither balance nor replace one by one; remove it, and set replicas`;
  const many = given.filter(({ value }) => Number(value) > 1);
  if (many.length > 0) return many.map((option) => ({ at: option.index, message: multiplied(spelling(option)) }));
  const { variable } = workers;
  if (given.length > 0 || variable === undefined || !(Number(env[variable]) > 1)) return [];
  const none = workers.none?.join(" ") ?? "";
  const message = `${variable} makes each of the pool's workers a ${program.name} with several processes; set ${variable} to 1 in env${none === "" ? "" : `, or add ${none}`}`;
  return [{ at: "env", message }];
}

function reusePortTraps({ program, words, mode, hasManyWorkers, at, from }: KnownPool): readonly Trap[] {
  if (program.reusePort !== "none" || mode !== "own" || !hasManyWorkers) return [];
  // Each worker may have an address of its own, or a socket that it inherits in another way.
  const isOwn = words.slice(from).some((word) => /\{\{\s*\.(?:Slot|WorkerID)\s*\}\}|^--fd\b|fd:\/\//u.test(word));
  if (isOwn) return [];
  const instead = typeof program.descriptor !== "object" ? "server" : "server or sockets";
  const message = `${program.name} does not use SO_REUSEPORT, so only one worker of the pool can open its port, and the others fail; add ${instead}`;
  return [{ at, message }];
}

function keepAliveTraps({ program, words, from, workerKeepaliveMs }: KnownPool): readonly Trap[] {
  const { keepAlive, name } = program;
  if (keepAlive === undefined || workerKeepaliveMs === undefined) return [];
  const given = findOptions(words, keepAlive.options ?? [], from).at(-1);
  const own = given === undefined ? keepAlive.ms : Number(given.value) * (keepAlive.isMs ? 1 : 1000);
  // gunicorn and others close each connection if it is 0.
  if (!(own > 0) || workerKeepaliveMs < own) return [];
  const source = given === undefined ? " unless its configuration changes that" : ` (${spelling(given)})`;
  const message = `${name} closes idle connections after ${formatDuration(own)}${source}, so a request may meet a connection that is being closed; set a worker_keepalive of less than ${formatDuration(own)}`;
  return [{ at: "server.worker_keepalive", message }];
}

function descriptorTraps({ program, words, wrappers, mode, from, at }: KnownPool): readonly Trap[] {
  const { descriptor, name } = program;
  if (mode !== "sockets" || descriptor === undefined || descriptor === "application" || !descriptor.isByPid) return [];
  const given = program.addressOptions
    .flatMap(({ names }) => findOptions(words, names, from))
    .filter(({ value }) => value?.startsWith("fd://") === true);
  const blocker = wrappers.find(({ replacesItself }) => !replacesItself)?.executables[0];
  const [first] = given;
  if (blocker === undefined && first !== undefined) {
    const message = `${name} also finds the shared socket by LISTEN_FDS, so it takes the socket twice and exits with "Bad file descriptor"; remove ${spelling(first)}`;
    return [{ at: first.index, message }];
  }
  if (blocker === undefined || first !== undefined || descriptor.wrapped === undefined) return [];
  const addition = descriptor.wrapped.join(" ").replace("{fd}", "{{.Fd}}");
  const message = `LISTEN_PID names ${blocker}, not ${name}, so ${name} does not find the shared socket; add ${addition}`;
  return [{ at, message }];
}

/** Package managers of Node.js run the program as their child. */
function launcherTraps({ program, wrappers, mode, stopSignalTarget, at }: KnownPool): readonly Trap[] {
  const isLauncher = ["npm", "pnpm", "yarn"].includes(program.name);
  const name = isLauncher ? program.name : wrappers.find((each) => !each.passesDescriptors)?.executables[0];
  if (name === undefined) return [];
  const traps: Trap[] = [];
  if (mode === "sockets")
    traps.push({ at, message: `${name} passes no sockets on to the program; run the program itself, without ${name}` });
  if (stopSignalTarget === "leader") {
    const message = `the first process is ${name}, which may exit before the program or not pass the signal on; write stop_signal_target: group, or run the program itself`;
    traps.push({ at: "stop_signal_target", message });
  }
  return traps;
}

function hostnameTraps({ program, env, configured, mode, at }: KnownPool): readonly Trap[] {
  if (program.env?.["HOSTNAME"] === undefined || mode !== "proxy") return [];
  const isSet = configured.has("HOSTNAME") || env["HOSTNAME"] === program.env["HOSTNAME"];
  if (isSet) return [];
  const message =
    "Next.js listens on the address of HOSTNAME, which containers set to their own name, where Envoy does not connect; set HOSTNAME to 127.0.0.1 in env";
  return [{ at, message }];
}

function spelling({ name, value, length }: FoundOption): string {
  if (value === undefined) return name;
  return length === 2 || /^-[A-Za-z]$/u.test(name) ? `${name} ${value}` : `${name}=${value}`;
}
