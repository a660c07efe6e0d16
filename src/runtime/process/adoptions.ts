/**
 * Whose the processes are that the controller has adopted. Each is examined once, and never longer than a bound in one turn of the
 * event loop: a worker may leave thousands behind.
 */
import { monotonicMs } from "../../base/monotonic.ts";
import { TURN_MS } from "../../base/turns.ts";
import { readEnvironment, readStat } from "../os/procfs.ts";
import { CONTROLLER_MARK } from "./lifeline.ts";

/** Names a helper's worker to it, and tells helpers from processes of the worker. */
export const HELPER_VARIABLE = "MONOCEROS_WORKER_PID";

/** A worker as its processes know it. */
export interface Origin {
  /** Its leader, which also names its session. */
  readonly pid: number;
  /** As `readMarks` returns them; never "". */
  readonly marks: string;
}

interface Adopted {
  readonly session: number;
  readonly marks: string;
}

/**
 * What is known after a look: `partly` if time ran out, `exec` if a process is in an execve(2), where it cannot be known,
 * `changed` if a process has ended, which may have left children to this process since they were listed.
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

  /** Examines those of `children`, live children of this process, that are new; `isOther` knows those that were not adopted. */
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

  /** Adopted processes of a worker, as far as they were examined. */
  *membersOf(origin: Origin): Generator<number> {
    for (const [pid, { session, marks }] of this.#known)
      if (session === origin.pid || marks === origin.marks) yield pid;
  }

  hasMembersOf(origin: Origin): boolean {
    return this.membersOf(origin).next().done !== true;
  }

  /** The marks of the worker that a process came from; "" of any other, undefined if unknown at the moment. */
  readMarks(pid: number): string | undefined {
    const env = readEnvironment(pid);
    if (env?.size === 0) return undefined;
    if (env === undefined || env.get(CONTROLLER_MARK) !== this.#mark || env.has(HELPER_VARIABLE)) return "";
    return [env.get("MONOCEROS_POOL"), env.get("MONOCEROS_SLOT"), env.get("MONOCEROS_INCARNATION")].join("\0");
  }
}
