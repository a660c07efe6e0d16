/**
 * Which processes each worker consists of, kept up to date cheaply for a thousand workers: one listing of /proc, and two
 * files at most of each process that has come since the last one.
 *
 * A process belongs to a worker when it is its leader, is of the leader's session, was started by a process of the
 * worker, or, where it is seen first when its parent is gone and it has been adopted by the controller, carries the
 * worker's marks in its environment. That is decided when it is seen first and stays so, wherever it goes. Not found: a
 * process that left the session, lost its parent between two listings and wiped its environment. Between two listings a
 * process id is taken to name one process: the kernel hands them out in turn (pid_max in proc(5)).
 */
import { readdirSync } from "node:fs";
import type { Incarnation, Slot } from "../core/identity.ts";
import { CONTROLLER_MARK } from "./lifeline.ts";
import { HELPER_VARIABLE } from "./processes.ts";
import { readEnvironment, readStat } from "./procfs.ts";

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
  members: number[];
}

/** Of a process that belongs to no worker. */
const FOREIGN = Symbol("foreign");

type Owner = Tree | typeof FOREIGN;

export class ProcessTrees {
  /** Value of CONTROLLER_MARK in the environment of this controller's workers. */
  readonly #mark: string;
  readonly #trees = new Map<number, Tree>();
  /** Whose each process is that the last listing has shown. */
  #owners = new Map<number, Owner>();

  constructor(mark: string) {
    this.#mark = mark;
  }

  /** A worker that has just been spawned. */
  add(root: TreeRoot): void {
    const tree: Tree = { root, members: [root.leader] };
    this.#trees.set(root.leader, tree);
    this.#owners.set(root.leader, tree);
  }

  /** The leader is gone; what is left of its worker belongs to nobody from now on. */
  remove(leader: number): void {
    this.#trees.delete(leader);
    this.#owners.delete(leader);
  }

  /** Process ids of the worker at the last listing, leader included; zombies may be among them. */
  membersOf(leader: number): readonly number[] {
    return this.#trees.get(leader)?.members ?? [];
  }

  /** Lists all processes anew. */
  refresh(): void {
    const known = this.#owners;
    const owners = new Map<number, Owner>();
    const fresh = new Set<number>();
    for (const name of readdirSync("/proc")) {
      if (name.charCodeAt(0) > 57) continue;
      const pid = Number(name);
      const owner = known.get(pid);
      if (owner === undefined) fresh.add(pid);
      else owners.set(pid, owner);
    }
    this.#owners = owners;
    for (const pid of fresh) this.#examine(pid, fresh);
    for (const tree of this.#trees.values()) tree.members = [];
    for (const [pid, owner] of owners) if (owner !== FOREIGN && this.#isLive(owner)) owner.members.push(pid);
  }

  /** Finds out whose a process is that was not there before; parents first, for their children are theirs. */
  #examine(pid: number, fresh: Set<number>): Owner | undefined {
    if (!fresh.delete(pid)) return this.#owners.get(pid);
    const stat = readStat(pid);
    if (stat === undefined) return undefined;
    let owner: Owner | undefined = this.#trees.get(pid) ?? this.#trees.get(stat.session);
    if (owner === undefined) {
      if (stat.ppid === process.pid) owner = this.#ownerByMarks(pid);
      // A parent that has ended meanwhile leaves the question for the next listing.
      else owner = stat.ppid === 0 ? FOREIGN : this.#examine(stat.ppid, fresh);
    }
    if (owner !== undefined) this.#owners.set(pid, owner);
    return owner;
  }

  #isLive(tree: Tree): boolean {
    return this.#trees.get(tree.root.leader) === tree;
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
