/**
 * Which processes each worker consists of, kept up to date cheaply for a thousand workers: one listing of /proc, and two
 * files at most of each process that has come since the last one. All readers (memory limits, CPU, diagnosis) share it.
 *
 * A process belongs to a worker when it is its leader, is of the leader's session, was started by a process of the
 * worker, or, where it is seen first when its parent is gone and it has been adopted by the controller, carries the
 * worker's marks in its environment. That is decided when it is seen first and stays so, wherever it goes. Not found: a
 * process that left the session, lost its parent between two listings and wiped its environment. Between two listings that
 * are less than STALE_MS apart a process id is taken to name one process: the kernel hands them out in turn (pid_max in
 * proc(5)). After a longer time each process is identified again by its start time.
 */

import { readdirSync } from "node:fs";
import { monotonicMs } from "../../base/monotonic.ts";
import type { Incarnation, Slot } from "../../core/identity.ts";
import { readProcText } from "../os/procFile.ts";
import { readEnvironment, readStat } from "../os/procfs.ts";
import { HELPER_VARIABLE } from "./adoptions.ts";
import { CONTROLLER_MARK } from "./lifeline.ts";

/** The leader of a worker and what is in the environment of all that it starts. */
export interface TreeRoot {
  readonly leader: number;
  /** Name of the pool. */
  readonly pool: string;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
}

interface Tree {
  readonly root: TreeRoot;
  /** Parents before their children. */
  members: number[];
  /** Start time of each member but the leader, in clock ticks after boot. */
  readonly births: Map<number, number>;
}

/** Of a process that belongs to no worker. */
const FOREIGN = Symbol("foreign");

type Owner = Tree | typeof FOREIGN;

/** After so long without a listing a process id may name another process. */
const STALE_MS = 20_000;

/** New processes that one listing examines, so that a worker that starts thousands holds nothing up for long. */
const MAX_EXAMINED = 1000;

export class ProcessTrees {
  /** Value of CONTROLLER_MARK in the environment of this controller's workers. */
  readonly #mark: string;
  readonly #nowMs: () => number;
  readonly #readYoungest: () => string | undefined;
  readonly #trees = new Map<number, Tree>();
  /** Owner of each process in the last listing. */
  #owners = new Map<number, Owner>();
  #listedAtMs = Number.NEGATIVE_INFINITY;
  /** The youngest process id when the processes were listed last; undefined if unknown. */
  #youngest: string | undefined;
  /** Whether that listing found the owner of every process, and nothing has changed here since. */
  #isComplete = false;

  /**
   * `nowMs`: monotonic milliseconds. `youngest`: the id of the process or thread that was created last, undefined if unknown.
   */
  constructor(mark: string, nowMs: () => number = () => monotonicMs(), youngest = readYoungest) {
    this.#mark = mark;
    this.#nowMs = nowMs;
    this.#readYoungest = youngest;
  }

  /** A worker that has just been spawned. */
  add(root: TreeRoot): void {
    const tree: Tree = { root, members: [root.leader], births: new Map() };
    this.#trees.set(root.leader, tree);
    this.#owners.set(root.leader, tree);
    this.#isComplete = false;
  }

  /** The leader has exited; what is left of its worker belongs to no worker from now on. */
  remove(leader: number): void {
    this.#trees.delete(leader);
    this.#owners.delete(leader);
    this.#isComplete = false;
  }

  /**
   * Process ids of the worker at the last listing, leader included, parents before their children; zombies may be among
   * them. Only the leader if there was no listing since `add`, none after `remove`.
   */
  membersOf(leader: number): readonly number[] {
    return this.#trees.get(leader)?.members ?? [];
  }

  /** The process that a listing took for a member is another one, with the same id: the next listing examines it. */
  disown(pid: number): void {
    const owner = this.#owners.get(pid);
    if (owner === undefined || (owner !== FOREIGN && owner.root.leader === pid)) return;
    this.#owners.delete(pid);
    this.#isComplete = false;
  }

  /**
   * Lists all processes again, unless the last listing is at most `maxAgeMs` old. With `mayHoldEnded` the last one also
   * stays if no process was created since, which costs one small file; then members may have ended.
   */
  refresh(maxAgeMs = 0, mayHoldEnded = false): void {
    const nowMs = this.#nowMs();
    const ageMs = nowMs - this.#listedAtMs;
    if (ageMs < maxAgeMs) return;
    const youngest = this.#readYoungest();
    const isUnchanged = youngest !== undefined && youngest === this.#youngest && ageMs <= STALE_MS;
    this.#listedAtMs = nowMs;
    if (mayHoldEnded && isUnchanged && this.#isComplete) return;
    this.#youngest = youngest;
    this.#isComplete = true;
    const known = this.#owners;
    const owners = new Map<number, Owner>();
    const fresh = new Set<number>();
    for (const name of readdirSync("/proc")) {
      if (name.charCodeAt(0) > 57) continue;
      const pid = Number(name);
      const owner = known.get(pid);
      if (owner === undefined || (ageMs > STALE_MS && !isSameProcess(pid, owner))) fresh.add(pid);
      else owners.set(pid, owner);
    }
    this.#owners = owners;
    // Those that stay keep their order, and a process that is new was started by one of them or by another new one.
    for (const tree of this.#trees.values()) {
      if (tree.members.every((pid) => owners.get(pid) === tree)) continue;
      tree.members = tree.members.filter((pid) => owners.get(pid) === tree);
      for (const pid of tree.births.keys()) if (owners.get(pid) !== tree) tree.births.delete(pid);
    }
    const most = fresh.size - MAX_EXAMINED;
    for (const pid of fresh) {
      // The others are still unknown, so the next listing examines them.
      if (fresh.size <= most) this.#isComplete = false;
      else this.#examine(pid, fresh);
    }
  }

  /** Finds the owner of a process that was not there before; of its parent first, whose children are of the same worker. */
  #examine(pid: number, fresh: Set<number>): Owner | undefined {
    if (!fresh.delete(pid)) return this.#owners.get(pid);
    const stat = readStat(pid);
    if (stat === undefined) return undefined;
    if (fresh.has(stat.ppid)) this.#examine(stat.ppid, fresh);
    let owner: Owner | undefined = this.#trees.get(pid) ?? this.#trees.get(stat.session);
    if (owner === undefined) {
      if (stat.ppid === process.pid) owner = this.#ownerByMarks(pid);
      // A parent that has ended meanwhile leaves the question for the next listing.
      else owner = stat.ppid === 0 ? FOREIGN : this.#examine(stat.ppid, fresh);
    }
    if (owner !== undefined && owner !== FOREIGN && this.#trees.get(owner.root.leader) !== owner) owner = FOREIGN;
    if (owner === undefined) {
      this.#isComplete = false;
      return undefined;
    }
    this.#owners.set(pid, owner);
    if (owner !== FOREIGN) {
      owner.births.set(pid, stat.startTicks);
      owner.members.push(pid);
    }
    return owner;
  }

  /** Whose a child of the controller is; undefined in the midst of an execve(2), to be asked again. */
  #ownerByMarks(pid: number): Owner | undefined {
    const env = readEnvironment(pid);
    if (env?.size === 0) return undefined;
    if (env === undefined || env.get(CONTROLLER_MARK) !== this.#mark || env.has(HELPER_VARIABLE)) return FOREIGN;
    for (const tree of this.#trees.values()) {
      const { pool, slot, incarnation } = tree.root;
      if (
        env.get("MONOCEROS_POOL") === pool &&
        env.get("MONOCEROS_SLOT") === String(slot) &&
        env.get("MONOCEROS_INCARNATION") === String(incarnation)
      )
        return tree;
    }
    return FOREIGN;
  }
}

/** The id of the process or thread that was created last (proc_loadavg(5)): as long as it stays the same, none was. */
function readYoungest(): string | undefined {
  return readProcText("/proc/loadavg")?.trim().split(" ").at(-1);
}

/** Whether a process that a listing long ago has shown is still the one under this id; false for one of no worker. */
function isSameProcess(pid: number, owner: Owner): boolean {
  if (owner === FOREIGN) return false;
  // The leader stays under its id until this controller reaps it.
  return pid === owner.root.leader || readStat(pid)?.startTicks === owner.births.get(pid);
}
