/**
 * Finds which worker each process adopted by the controller came from. Each process is examined once, within a time
 * limit per turn of the event loop, because a worker may leave thousands behind.
 */
import { monotonicMs } from "../../base/monotonic.ts";
import { TURN_MS } from "../../base/turns.ts";
import type { Incarnation, Slot } from "../../core/identity.ts";
import { readEnvironment, readStat } from "../os/procfs.ts";
import { CONTROLLER_MARK } from "./guardian.ts";

/** Gives a helper the pid of its worker, and distinguishes helpers from the worker's own processes. */
export const HELPER_VARIABLE = "MONOCEROS_WORKER_PID";

/** The identity that a worker's processes carry. */
export interface Origin {
  /** Pid of the leader, which is also the session id. */
  readonly pid: number;
  /** See marksOf(). */
  readonly marks: string;
}

interface Adopted {
  readonly session: number;
  readonly marks: string;
}

/**
 * Result of an examination: `partly` if time ran out, `exec` if a process is in execve(2), where its owner is unknown,
 * `changed` if a process has exited, which may have left children to this process since they were listed.
 */
export type Knowledge = "all" | "partly" | "exec" | "changed";

export class Adoptions {
  readonly #mark: string;
  readonly #turnMs: number;
  readonly #known = new Map<number, Adopted>();

  /** `mark` is the value of CONTROLLER_MARK in the environment of every process of this controller. */
  constructor(mark: string, turnMs = TURN_MS) {
    this.#mark = mark;
    this.#turnMs = turnMs;
  }

  /** Examines the new ones of `children`, live children of this process, except those not adopted (`isOther`). */
  examine(children: readonly number[], isOther: (pid: number) => boolean): Knowledge {
    const deadline = monotonicMs() + this.#turnMs;
    let knowledge: Knowledge = "all";
    let examined = 0;
    for (const pid of children) {
      if (this.#known.has(pid) || isOther(pid)) continue;
      if (examined++ > 0 && monotonicMs() > deadline) return "partly";
      const stat = readStat(pid);
      if (stat === undefined || stat.state === "Z") {
        if (knowledge === "all") knowledge = "changed";
        continue;
      }
      const marks = this.readMarks(pid);
      if (marks === undefined) knowledge = "exec";
      else this.#known.set(pid, { session: stat.session, marks });
    }
    return knowledge;
  }

  /** Call when `pid` was reaped: its id may name another process now. */
  forget(pid: number): void {
    this.#known.delete(pid);
  }

  /** The adopted processes of a worker that have been examined. */
  *membersOf(origin: Origin): Generator<number> {
    for (const [pid, { session, marks }] of this.#known)
      if (session === origin.pid || marks === origin.marks) yield pid;
  }

  hasMembersOf(origin: Origin): boolean {
    return this.membersOf(origin).next().done !== true;
  }

  /** The marks of a process. */
  readMarks(pid: number): string | undefined {
    return readMarks(pid, this.#mark);
  }
}

/** The marks in the environment of each process of a worker. */
export function marksOf(pool: string, slot: Slot | string, incarnation: Incarnation | string): string {
  return `${pool}\0${slot}\0${incarnation}`;
}

/**
 * The marks of the worker that a process came from, if `mark` is its CONTROLLER_MARK; "" for any other process. Unknown
 * during execve(2), to be retried.
 */
export function readMarks(pid: number, mark: string): string | undefined {
  const env = readEnvironment(pid);
  if (env?.size === 0) return undefined;
  if (env === undefined || env.get(CONTROLLER_MARK) !== mark || env.has(HELPER_VARIABLE)) return "";
  const read = (name: string) => env.get(`MONOCEROS_${name}`) ?? "";
  return marksOf(read("POOL"), read("SLOT"), read("INCARNATION"));
}
