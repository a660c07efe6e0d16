/**
 * Processes that workers leave behind when their leader exits: members of its group, and processes that left the group
 * and were adopted by the controller.
 */
import { monotonicMs } from "../../base/monotonic.ts";
import { sendSignal } from "../os/linux.ts";
import { listChildren } from "../os/procfs.ts";
import { Adoptions, type Knowledge } from "./adoptions.ts";
import type { WorkerProcess } from "./workerProcess.ts";

/** Interval at which groups are checked for remaining processes, besides at every exit. */
const VACANCY_POLL_MS = 20;

/** How long after its leader exits a process without an environment counts as being in execve(2). */
const EXEC_BOUND_MS = 250;

/** How many times children are listed again if they change during the examination. */
const MAX_LISTINGS = 5;

export class Survivors {
  readonly adoptions: Adoptions;
  readonly #isOther: (pid: number) => boolean;
  /** Whether the adopted processes were examined in this turn of the event loop. */
  #isExamined = false;

  /** `mark` is the value of CONTROLLER_MARK; `isOther` recognizes children that were not adopted. */
  constructor(mark: string, isOther: (pid: number) => boolean) {
    this.adoptions = new Adoptions(mark);
    this.#isOther = isOther;
  }

  /** Processes of the worker that left its tree and were adopted by the controller. */
  adoptedOf(worker: WorkerProcess): readonly number[] {
    // Once per turn of the event loop: there may be a call for each of hundreds of workers.
    if (!this.#isExamined) {
      this.#examine(listChildren());
      this.#isExamined = true;
      setImmediate(() => {
        this.#isExamined = false;
      });
    }
    return [...this.adoptions.membersOf(worker)];
  }

  /**
   * The workers that have, or may have, remaining processes: some adopted processes may not have been examined. Groups
   * come first, because the children of a group's members become our children once the group is empty. A process that
   * exits while the children are examined may have left us a child, so they are listed again.
   */
  of(workers: readonly WorkerProcess[]): ReadonlySet<WorkerProcess> {
    const surviving = new Set<WorkerProcess>();
    for (let listing = 0; ; listing++) {
      for (const worker of workers) if (sendSignal(-worker.pid, 0)) surviving.add(worker);
      if (surviving.size === workers.length) return surviving;
      if (listing === MAX_LISTINGS) return new Set(workers);
      const children = listChildren();
      const known = this.#examine(children);
      for (const worker of workers) {
        const mayBeInExec = known === "exec" && isExecPossible(worker);
        if (known === "partly" || mayBeInExec || this.adoptions.hasMembersOf(worker)) surviving.add(worker);
      }
      if (known === "all" || children.join() === listChildren().join()) return surviving;
    }
  }

  #examine(children: readonly number[]): Knowledge {
    return this.adoptions.examine(children, this.#isOther);
  }
}

/** During execve(2), which is brief, the owner of a process is unknown: the process is examined again. */
function isExecPossible({ leaderExitedAtMs = 0 }: WorkerProcess): boolean {
  return monotonicMs() - leaderExitedAtMs < EXEC_BOUND_MS;
}

/** Waits until the last process of each worker has exited. */
export class VacancyWatch {
  readonly #survivors: Survivors;
  readonly #poll: () => void;
  readonly #workers = new Set<WorkerProcess>();
  #timer: NodeJS.Timeout | undefined;
  /** When to look for survivors again, by monotonicMs(). */
  #nextLookAtMs = 0;

  /** `poll` is called regularly while workers are watched; it must reap and call look(). */
  constructor(survivors: Survivors, poll: () => void) {
    this.#survivors = survivors;
    this.#poll = poll;
  }

  /** Watches a worker whose leader has exited. */
  add(worker: WorkerProcess): void {
    this.#workers.add(worker);
  }

  /** Calls `vacated` for each worker that has no process left, and `remains` for the others. */
  look(vacated: (worker: WorkerProcess) => void, remains: (worker: WorkerProcess) => void): void {
    // Members with live parents are not our children: no SIGCHLD reports their exit.
    if (this.#workers.size > 0) this.#timer ??= setInterval(this.#poll, VACANCY_POLL_MS);
    const startedAtMs = monotonicMs();
    if (this.#workers.size === 0 || startedAtMs < this.#nextLookAtMs) return;
    const surviving = this.#survivors.of([...this.#workers]);
    for (const worker of this.#workers) {
      if (surviving.has(worker)) {
        remains(worker);
        continue;
      }
      this.#workers.delete(worker);
      vacated(worker);
    }
    const endedAtMs = monotonicMs();
    // A search among thousands of processes takes at most a quarter of the time.
    if (endedAtMs - startedAtMs > 2) this.#nextLookAtMs = endedAtMs + 3 * (endedAtMs - startedAtMs);
    if (this.#workers.size === 0) this.close();
  }

  /** Stops polling. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
