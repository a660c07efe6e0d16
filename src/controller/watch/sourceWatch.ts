/**
 * Restarts pools when their source files change: one rolling restart at a time. If it fails, the old workers keep serving
 * until the next change.
 */
import { existsSync, realpathSync } from "node:fs";
import { basename, relative } from "node:path";
import type { ReloadPlan } from "../../admin/api.ts";
import { type ControllerError, messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Instant } from "../../base/time.ts";
import type { LifecycleEvent } from "../../core/event.ts";
import {
  beginRestart,
  endRestart,
  isTemporary,
  NO_CHANGES,
  noteChange,
  restartAt,
  type SourceChanges,
} from "../../core/policy/sourceChanges.ts";
import type { Order } from "../../core/pool/order.ts";
import type { ControllerView, PoolView } from "../../core/view.ts";
import type { Clock } from "../../runtime/clock.ts";
import { logReload } from "./signals.ts";
import { TreeWatch, type TreeWatchListener } from "./treeWatch.ts";

/** What is watched for one pool. */
export interface PoolSources {
  readonly pool: string;
  /** Absolute paths. */
  readonly directories: readonly string[];
}

export interface SourceWatchOptions {
  /** Of the current configuration. */
  readonly sources: () => readonly PoolSources[];
  /** Absolute paths of the configuration and of env files. A change of one leads to a reload. */
  readonly settings: () => readonly string[];
  readonly view: () => ControllerView;
  readonly order: (pool: number, order: Order, reason: string) => string;
  readonly reload: () => Promise<ReloadPlan>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly openTrees?: (listener: TreeWatchListener) => Trees;
}

type Trees = Pick<TreeWatch, "add" | "size"> & Disposable;

export class SourceWatch implements Disposable {
  readonly #options: SourceWatchOptions;
  readonly #trees: Trees;
  #changes: SourceChanges = NO_CHANGES;
  /** Changed files since the last restart began, with the number of their renames. */
  #paths = new Map<string, number>();
  /** Operations that the running restart waits for. */
  readonly #awaited = new Set<string>();
  /** Operations that have ended since the restart began, perhaps before it knows their ids. */
  readonly #ended = new Set<string>();
  #isOrdering = false;
  #timer: { readonly at: Instant; readonly armed: Disposable } | undefined;
  #lastFailure: string | undefined;

  /** Starts watching. @throws ControllerError WATCH_FAILED */
  constructor(options: SourceWatchOptions) {
    this.#options = options;
    const { openTrees = (listener) => new TreeWatch(listener) } = options;
    this.#trees = openTrees({
      changed: (path, isRename) => this.#changed(path, isRename),
      failed: (error) => this.#failed(error),
    });
    try {
      this.#watchAll();
    } catch (error) {
      this.#trees[Symbol.dispose]();
      throw error;
    }
    const roots = new Set(options.sources().flatMap(({ directories }) => directories));
    options.log.info(
      `watching ${[...roots].join(", ")} for changes, ${this.#trees.size} director${this.#trees.size === 1 ? "y" : "ies"}`,
    );
  }

  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    if (event.kind !== "operation_finished" && event.kind !== "operation_failed") return;
    if (this.#changes.isRestarting) this.#ended.add(event.operation);
    if (this.#awaited.delete(event.operation)) this.#endIfDone();
  }

  [Symbol.dispose](): void {
    this.#timer?.armed[Symbol.dispose]();
    this.#trees[Symbol.dispose]();
  }

  #watchAll(): void {
    for (const { directories } of this.#options.sources())
      for (const directory of directories) this.#trees.add(realPath(directory));
  }

  #changed(path: string, isRename: boolean): void {
    this.#paths.set(path, (this.#paths.get(path) ?? 0) + (isRename ? 1 : 0));
    this.#changes = noteChange(this.#changes, this.#options.clock.now());
    this.#arm();
  }

  #failed(error: ControllerError): void {
    if (error.message === this.#lastFailure) return;
    this.#lastFailure = error.message;
    this.#options.log.warn(error.message, { hint: error.hint });
  }

  #arm(): void {
    const at = restartAt(this.#changes);
    if (at === this.#timer?.at) return;
    this.#timer?.armed[Symbol.dispose]();
    this.#timer = at === undefined ? undefined : { at, armed: this.#options.clock.wakeAt(at, () => this.#begin()) };
  }

  #begin(): void {
    this.#timer = undefined;
    const paths = [...this.#paths].flatMap(([path, renames]) => (isTemporary(renames, existsSync(path)) ? [] : path));
    this.#paths = new Map();
    const { phase } = this.#options.view();
    if (phase !== "booting" && phase !== "running") return;
    if (paths.length === 0) {
      this.#changes = NO_CHANGES;
      return;
    }
    this.#changes = beginRestart();
    this.#ended.clear();
    this.#isOrdering = true;
    this.#restart(paths)
      .catch((error: unknown) => this.#options.log.error(`the change has no effect: ${messageOf(error)}`))
      .finally(() => {
        this.#isOrdering = false;
        this.#endIfDone();
      });
  }

  async #restart(paths: readonly string[]): Promise<void> {
    const { order, reload, settings, log } = this.#options;
    const settingsPaths = new Set(settings().map(realPath));
    const sources = paths.filter((path) => !settingsPaths.has(path));
    if (sources.length < paths.length) {
      const plan = await reload();
      logReload(plan, log);
      for (const { id } of plan.operations) this.#await(id);
      this.#watchAll();
    }
    const reason = `${describePaths(sources)} changed`;
    for (const pool of this.#affectedBy(sources))
      for (const each of restartOrders(pool)) this.#await(order(pool.index, each, reason));
  }

  #await(operation: string): void {
    if (!this.#ended.has(operation)) this.#awaited.add(operation);
  }

  #endIfDone(): void {
    if (this.#isOrdering || this.#awaited.size > 0) return;
    this.#changes = endRestart(this.#changes);
    this.#arm();
  }

  #affectedBy(paths: readonly string[]): readonly PoolView[] {
    const names = new Set(
      this.#options
        .sources()
        .filter(({ directories }) => directories.map(realPath).some((root) => paths.some((path) => isIn(path, root))))
        .map(({ pool }) => pool),
    );
    return this.#options.view().pools.filter(({ role, name }) => role === "workers" && names.has(name));
  }
}

/** Restarts the running workers, and those that crashed without their backoff: the change may have corrected them. */
function restartOrders({ workers }: PoolView): readonly Order[] {
  const crashed = workers.filter(({ phase }) => phase === "backoff").map(({ slot }) => slot);
  const isRunning = workers.some(({ phase }) => phase !== "backoff" && phase !== "down");
  return [
    ...(crashed.length === 0
      ? []
      : ([
          { kind: "stop", slots: crashed },
          { kind: "start", slots: crashed },
        ] as const)),
    ...(isRunning ? [{ kind: "restart", slots: undefined } as const] : []),
  ];
}

function isIn(path: string, root: string): boolean {
  return path === root || path.startsWith(root === "/" ? root : `${root}/`);
}

/** The path itself if it does not exist. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

/** The first of the files, relative to the working directory if it is in it, and the number of others. */
function describePaths(paths: readonly string[]): string {
  const [first = "", ...others] = paths;
  const near = relative(process.cwd(), first);
  const name = near.startsWith("..") ? first : near || basename(first);
  return others.length === 0 ? name : `${name} and ${others.length} other${others.length === 1 ? "" : "s"}`;
}
