/**
 * Tracks the processes of each worker, cheaply enough for a thousand workers: one listing of /proc, and at most two
 * files per process created since the last listing. All readers (memory limits, CPU, diagnosis) share it.
 *
 * A process belongs to a worker if it is the leader, is in the leader's session, or was started by a process of the
 * worker. If its parent had exited and the controller had adopted it when it was first seen, the marks in its
 * environment decide. Ownership is decided once and never changes. Not detected: a process that left the session, lost
 * its parent between two listings and wiped its environment. Between two listings less than STALE_MS apart, a process
 * id is assumed to name one process, because the kernel assigns ids in sequence (pid_max in proc(5)). After a longer
 * time, each process is identified again by its start time.
 */

import { readdirSync } from "node:fs";
import { monotonicMs } from "../../base/monotonic.ts";
import type { Incarnation, Slot } from "../../core/identity.ts";
import { readProcText } from "../os/procFile.ts";
import { readStat } from "../os/procfs.ts";
import { marksOf, readMarks } from "./adoptions.ts";

/** The leader of a worker, and the marks in the environment of every process that it starts. */
export interface TreeRoot {
  readonly leader: number;
  /** Name of the pool. */
  readonly pool: string;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
}

interface Tree {
  readonly root: TreeRoot;
  readonly marks: string;
  /** Parents before their children. */
  members: number[];
  /** Start time of each member except the leader, in clock ticks after boot. */
  readonly births: Map<number, number>;
}

/** Owner of a process that belongs to no worker. */
const FOREIGN = Symbol("foreign");

type Owner = Tree | typeof FOREIGN;

/** After this long without a listing, a process id may name another process. */
const STALE_MS = 20_000;

/** Limit on new processes examined per listing: a worker that starts thousands must not block the controller. */
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
  /** The youngest process id at the last listing; undefined if unknown. */
  #youngest: string | undefined;
  /** Whether that listing found the owner of every process, and no entry has changed since. */
  #isComplete = false;

  /**
   * `nowMs` returns monotonic milliseconds, `youngest` the id of the newest process or thread, undefined if unknown.
   */
  constructor(mark: string, nowMs: () => number = () => monotonicMs(), youngest = readYoungest) {
    this.#mark = mark;
    this.#nowMs = nowMs;
    this.#readYoungest = youngest;
  }

  /** Adds a worker that has just been spawned. */
  add(root: TreeRoot): void {
    const marks = marksOf(root.pool, root.slot, root.incarnation);
    const tree: Tree = { root, marks, members: [root.leader], births: new Map() };
    this.#trees.set(root.leader, tree);
    this.#owners.set(root.leader, tree);
    this.#isComplete = false;
  }

  /** Removes a worker whose leader has exited. Its remaining processes belong to no worker from now on. */
  remove(leader: number): void {
    this.#trees.delete(leader);
    this.#owners.delete(leader);
    this.#isComplete = false;
  }

  /**
   * Process ids of the worker at the last listing, including the leader, parents before their children. May include
   * zombies. Only the leader if there was no listing since `add`, none after `remove`.
   */
  membersOf(leader: number): readonly number[] {
    return this.#trees.get(leader)?.members ?? [];
  }

  /** Call if `pid` names another process than at the last listing: the next listing examines it. */
  disown(pid: number): void {
    const owner = this.#owners.get(pid);
    if (owner === undefined || (owner !== FOREIGN && owner.root.leader === pid)) return;
    this.#owners.delete(pid);
    this.#isComplete = false;
  }

  /**
   * Lists all processes again, unless the last listing is younger than `maxAgeMs`. With `mayHoldEnded`, it is also kept
   * if no process was created since, which costs reading one small file; members may then have exited.
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
    // Remaining members keep their order. A new process was started by one of them or by another new process.
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

  /** Finds the owner of a new process. Examines its parent first, because children belong to the same worker. */
  #examine(pid: number, fresh: Set<number>): Owner | undefined {
    if (!fresh.delete(pid)) return this.#owners.get(pid);
    const stat = readStat(pid);
    if (stat === undefined) return undefined;
    if (fresh.has(stat.ppid)) this.#examine(stat.ppid, fresh);
    let owner: Owner | undefined = this.#trees.get(pid) ?? this.#trees.get(stat.session);
    if (owner === undefined) {
      if (stat.ppid === process.pid) owner = this.#ownerByMarks(pid);
      // If the parent has exited meanwhile, the next listing decides.
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

  /** The owner of a child of the controller; undefined during execve(2), to be retried. */
  #ownerByMarks(pid: number): Owner | undefined {
    const marks = readMarks(pid, this.#mark);
    if (marks === undefined) return undefined;
    for (const tree of this.#trees.values()) if (tree.marks === marks) return tree;
    return FOREIGN;
  }
}

/** The id of the newest process or thread (proc_loadavg(5)). While it is unchanged, none was created. */
function readYoungest(): string | undefined {
  return readProcText("/proc/loadavg")?.trim().split(" ").at(-1);
}

/** Whether this id still names the process of an old listing; false for a process of no worker. */
function isSameProcess(pid: number, owner: Owner): boolean {
  if (owner === FOREIGN) return false;
  // The leader keeps its id until this controller reaps it.
  return pid === owner.root.leader || readStat(pid)?.startTicks === owner.births.get(pid);
}
