/**
 * What is known about a program that serves requests or runs jobs. Words that Monoceros adds to a command contain the
 * placeholders of `monoceros run`: {port}, {fd} and {slot}, and {host} for the address that clients connect to.
 */

/** An option that gives a program its own address. */
export interface AddressOption {
  readonly names: readonly string[];
  /** What its value is. An address is `HOST:PORT`, `:PORT`, a URL, or the path of a Unix socket. */
  readonly value: "port" | "host" | "address" | "socket" | "descriptor";
}

/** How a program takes the socket that all workers of a pool share. */
export interface Descriptor {
  readonly words: readonly string[];
  /** Whether it finds the socket by LISTEN_FDS and LISTEN_PID, so that a wrapper must replace itself. */
  readonly isByPid: boolean;
  /** The protocol by which it takes the socket and reports that it is ready. */
  readonly protocol?: "einhorn";
  /** Words instead of `words` behind a wrapper that does not replace itself; undefined if there are none. */
  readonly wrapped?: readonly string[];
}

/** How long a program keeps an idle connection open. */
export interface KeepAlive {
  readonly ms: number;
  /** Options that change it, in seconds, or in milliseconds if `isMs`. */
  readonly options?: readonly string[];
  readonly isMs?: true;
}

/** How a program starts processes of its own. */
export interface OwnWorkers {
  readonly options: readonly string[];
  /** A variable with the number, for which the options have precedence. */
  readonly variable?: string;
  /** Words that make it one process, whatever its environment and its configuration file say. */
  readonly none?: readonly string[];
}

export interface Program {
  readonly name: string;
  /** Names of its executable, without a version. */
  readonly executables: readonly string[];
  /** Names of its module for `python -m`. */
  readonly modules?: readonly string[];
  /** Its subcommands that serve; with any other it is another program. Undefined if all do. */
  readonly subcommands?: readonly string[];
  /** Whether Envoy can be in front of it: "fastcgi" is another protocol, and "nothing" has no clients. */
  readonly serves: "http" | "fastcgi" | "nothing";

  /** How it listens on the port of a worker on loopback. Without words it listens on $PORT by convention. */
  readonly port?: readonly string[];
  /** "application" if its code opens the socket, and must be given the descriptor. Undefined if it takes none. */
  readonly descriptor?: Descriptor | "application";
  /** How it shares {port} by SO_REUSEPORT: words; "own" if the application decides; "none" if it never does. */
  readonly reusePort?: readonly string[] | "own" | "none";
  /** Options for its own address, which Monoceros replaces. */
  readonly addressOptions: readonly AddressOption[];
  /** Where words are added: behind the program's name, or at the end. */
  readonly placement?: "first" | "last";
  readonly env?: Readonly<Record<string, string>>;
  /** Words that every worker needs, with the option that they set. */
  readonly always?: readonly string[];

  readonly workers?: OwnWorkers;
  readonly keepAlive?: KeepAlive;
  /** How long Envoy keeps an idle connection to it; shorter than its own keep-alive. */
  readonly workerKeepAlive?: string;
  /** Options that make it restart its processes when files change. */
  readonly reloadOptions?: readonly string[];
  /** Options that make it continue in the background. */
  readonly daemonOptions?: readonly string[];
  /** The signal that stops it gracefully, if that is not SIGTERM, and what SIGTERM does. */
  readonly stop?: { readonly signal: string; readonly onTerm: string };
  /** For programs that stop their own children. */
  readonly stopTarget?: "leader";
  /** The grace period that it needs, if that is more than the default. */
  readonly stopTimeout?: string;
  /** One sentence for the documentation. */
  readonly note: string;
}

/** A program that runs another one. */
export interface Wrapper {
  readonly executables: readonly string[];
  /** Words that must follow it, such as `run`; any of them. Undefined if none is needed. */
  readonly subcommands?: readonly string[];
  /** Its options that take a value in the next word. */
  readonly valueOptions?: readonly string[];
  /** Whether it replaces itself, so that the program is the worker's first process. */
  readonly replacesItself: boolean;
  /** Whether the program inherits descriptors. */
  readonly passesDescriptors: boolean;
}

/** Options of the usual spelling. */
export const HOST_AND_PORT: readonly AddressOption[] = [
  { names: ["--port"], value: "port" },
  { names: ["--host"], value: "host" },
];
