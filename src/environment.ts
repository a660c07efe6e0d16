/**
 * Environment variables that would change or hang the runtime inside the executable. Workers inherit them unchanged:
 * they are meant for programs of the same runtime, or mean something else to other programs (NODE_UNIQUE_ID is a common
 * name for a node of a cluster). Pure.
 */

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Read by the runtime before the first line of the program runs, so removing them requires a restart. NODE_UNIQUE_ID
 * makes a process wait for a cluster's primary, NODE_V8_COVERAGE and NODE_DEBUG slow it down, NODE_DEBUG and
 * NODE_DEBUG_NATIVE write to stderr, NODE_COMPILE_CACHE keeps files. (NODE_OPTIONS and OPENSSL_CONF are switched off when
 * the executable is built.)
 */
const READ_AT_START = [
  "NODE_UNIQUE_ID",
  "NODE_V8_COVERAGE",
  "NODE_DEBUG",
  "NODE_DEBUG_NATIVE",
  "NODE_COMPILE_CACHE",
] as const;

/** Read by libuv when it first needs a thread or a ring, so the running process can still remove them. */
const READ_LATER = ["UV_THREADPOOL_SIZE", "UV_USE_IO_URING"] as const;

/** Passes the removed variables through the restart, as JSON. */
const CARRIER = "MONOCEROS_ENVIRONMENT";

export type EnvironmentDecision =
  /** Restart with `env`. */
  | { readonly kind: "restart"; readonly env: Readonly<Record<string, string>> }
  /** Continue without the variables in `remove`; `env` is what the program, its configuration and its workers see. */
  | { readonly kind: "run"; readonly env: Environment; readonly remove: readonly string[] };

/**
 * Decides what to do about `env`, the environment of this process. `hasChannel`: a Node.js parent has
 * opened a channel (NODE_CHANNEL_FD), whose messages are not for us. `mayRestart` is false if there is no executable
 * of our own to restart.
 */
export function decideEnvironment(env: Environment, hasChannel: boolean, mayRestart: boolean): EnvironmentDecision {
  const { [CARRIER]: carried, ...own } = env;
  if (carried === undefined && mayRestart && (hasChannel || READ_AT_START.some((name) => own[name] !== undefined))) {
    const names: readonly string[] = [...READ_AT_START, ...READ_LATER];
    const entries = Object.entries(own).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const isRemoved = ([name]: readonly [string, string]) => names.includes(name);
    const kept = Object.fromEntries(entries.filter((entry) => !isRemoved(entry)));
    return {
      kind: "restart",
      env: { ...kept, [CARRIER]: JSON.stringify(Object.fromEntries(entries.filter(isRemoved))) },
    };
  }
  return { kind: "run", env: { ...own, ...parseCarried(carried) }, remove: [...READ_LATER, CARRIER] };
}

function parseCarried(text: string | undefined): Record<string, string> {
  if (text === undefined) return {};
  try {
    const carried: unknown = JSON.parse(text);
    if (typeof carried !== "object" || carried === null) return {};
    return Object.fromEntries(Object.entries(carried).filter((entry) => typeof entry[1] === "string"));
  } catch {
    return {};
  }
}
