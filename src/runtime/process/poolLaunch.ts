/** How the workers of a pool are launched, and the environment that each of them gets. */
import { type Incarnation, type PoolIndex, type Slot, workerId } from "../../core/identity.ts";
import { NOTIFY_VARIABLE } from "../channel/notifyChannel.ts";
import type { SocketPlan } from "../channel/workerChannels.ts";
import { FIRST_INHERITED_FD, PreparedStrings } from "../os/linux.ts";
import type { InheritedSockets } from "../socket/sockets.ts";
import { HELPER_VARIABLE } from "./adoptions.ts";
import { CONTROLLER_MARK } from "./guardian.ts";
import type { LaunchPlan } from "./launch.ts";
import { ROOM_FOR_PID } from "./spawnShim.ts";

/** Names the worker to libraries that keep a file for each process (docs/decisions/0012-worker-identifier.md). */
const WORKER_ID_VARIABLE = "MULTIPROCESS_WORKER_ID";

/** How to launch a pool. `argsOf` returns the arguments of a slot, templates expanded. */
export interface PoolLaunch {
  readonly name: string;
  readonly plan: LaunchPlan;
  /** Called before each spawn. If it throws, the spawn fails. */
  readonly prepare?: (slot: Slot) => void;
  readonly argsOf: (slot: Slot) => readonly string[];
  readonly envOf: (slot: Slot) => Readonly<Record<string, string>>;
  /** Whether output passes through the controller. */
  readonly captured: boolean;
  /** undefined for a pool without sockets. */
  readonly sockets?: InheritedSockets | undefined;
  /** Whether workers inherit a descriptor for readiness notification. */
  readonly notifies?: boolean;
  /** The sockets on which a worker reports about itself; absent if it has none. */
  readonly socketsOf?: (slot: Slot, incarnation: Incarnation) => SocketPlan;
  /**
   * Requests the process to stop without a signal; resolves with whether it received the request. If present, the
   * process starts with all terminating signals blocked, so that signals to the whole service do not reach it.
   */
  readonly quit?: () => Promise<boolean>;
}

/** How the workers of a pool (by index) are launched in one of its revisions. */
export type LaunchOf = (pool: PoolIndex, revision: number) => PoolLaunch;

/** The notify descriptor in the worker: the next after the sockets. */
export function notifyFdOf({ sockets }: PoolLaunch): number {
  return FIRST_INHERITED_FD + (sockets?.fds.length ?? 0);
}

/** Variables about the descriptors that a worker of this pool inherits. */
export function inheritedVariables(launch: PoolLaunch): Readonly<Record<string, string>> {
  const { sockets, notifies } = launch;
  return {
    ...(sockets === undefined
      ? {}
      : { LISTEN_FDS: String(sockets.fds.length), LISTEN_FDNAMES: sockets.names.join(":"), LISTEN_PID: ROOM_FOR_PID }),
    ...(notifies === true ? { [NOTIFY_VARIABLE]: String(notifyFdOf(launch)) } : {}),
  };
}

export class WorkerEnvironments {
  readonly #mark: string;
  readonly #shared = new WeakMap<PoolLaunch, PreparedStrings>();

  /** `mark` is the value of CONTROLLER_MARK. */
  constructor(mark: string) {
    this.#mark = mark;
  }

  /**
   * The environment specific to one worker; `variables` describe what the process inherits or is. A
   * MULTIPROCESS_WORKER_ID in `env` or `env_file` takes precedence; the rest must be correct to identify our processes.
   */
  own(
    launch: PoolLaunch,
    slot: Slot,
    incarnation: Incarnation,
    variables: Readonly<Record<string, string>> = inheritedVariables(launch),
  ): string[] {
    const { name, plan } = launch;
    const own: Readonly<Record<string, string>> = {
      ...(plan.configured.has(WORKER_ID_VARIABLE) ? {} : { [WORKER_ID_VARIABLE]: workerId(name, slot) }),
      ...launch.envOf(slot),
      ...variables,
      MONOCEROS_POOL: name,
      MONOCEROS_SLOT: String(slot),
      MONOCEROS_INCARNATION: String(incarnation),
      [CONTROLLER_MARK]: this.#mark,
    };
    return Object.entries(own).map(([key, value]) => `${key}=${value}`);
  }

  /** The environment that all workers of a pool share, without the variables that own() sets. */
  shared(launch: PoolLaunch): PreparedStrings {
    const known = this.#shared.get(launch);
    if (known !== undefined) return known;
    const own = new Set(this.own(launch, 0, 0).map((entry) => entry.slice(0, entry.indexOf("="))));
    // A controller that a probe runs must not pass this on: its workers would count as helpers.
    own.add(HELPER_VARIABLE);
    const shared = Object.entries(launch.plan.env).filter(([key]) => !own.has(key));
    const prepared = new PreparedStrings(shared.map(([key, value]) => `${key}=${value}`));
    this.#shared.set(launch, prepared);
    return prepared;
  }
}
