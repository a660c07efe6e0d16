/**
 * Surveys the processes of one worker for dumps and profiles: which process explains the most
 * (runtime/inspect/treeSurvey.ts), and how texts name it.
 */
import { ControllerError } from "../../base/errors.ts";
import type { Slot } from "../../core/identity.ts";
import type { ControllerView, WorkerView } from "../../core/view.ts";
import { type Diagnosis, formatDiagnosis } from "../../runtime/inspect/diagnosis.ts";
import { relationOf, type Survey, type SurveyedProcess, surveyTree } from "../../runtime/inspect/treeSurvey.ts";
import type { ProcessTrees } from "../../runtime/process/processTrees.ts";

/** Maximum number of process ids in an error. */
const MAX_NAMED_PIDS = 10;

/** One process of a worker, and the survey that found it. */
export interface Subject {
  readonly leader: number;
  readonly process: SurveyedProcess;
  readonly survey: Survey;
  /** Live processes of the worker. */
  readonly members: ReadonlySet<number>;
}

export class WorkerSurvey {
  readonly #view: () => ControllerView;
  readonly #trees: Pick<ProcessTrees, "refresh" | "membersOf">;

  constructor(view: () => ControllerView, trees: Pick<ProcessTrees, "refresh" | "membersOf">) {
    this.#view = view;
    this.#trees = trees;
  }

  /** @throws ControllerError WORKER_UNKNOWN */
  workerIn(pool: number, slot: Slot): WorkerView {
    const { workers } = this.#view().pools.find(({ index }) => index === pool) ?? {};
    const worker = workers?.find((each) => each.slot === slot);
    if (worker !== undefined) return worker;
    throw new ControllerError("WORKER_UNKNOWN", "Cannot inspect the worker: its slot no longer exists");
  }

  /** The live processes of a worker, the one that explains the most first. Zombies only if no process is alive. */
  async processesOf(leader: number): Promise<readonly Subject[]> {
    this.#trees.refresh();
    // A leader that was just spawned, or that no longer belongs to a worker, is its own tree.
    const pids = this.#trees.membersOf(leader);
    const survey = await surveyTree(pids.length === 0 ? [leader] : pids);
    const members = new Set(survey.processes.map(({ stat }) => stat.pid));
    return survey.processes.map((process) => ({ leader, process, survey, members }));
  }
}

/** The process `pid` of a worker. @throws ControllerError PROCESS_UNKNOWN */
export function chooseProcess(
  what: "dump" | "profile",
  { id }: WorkerView,
  subjects: readonly Subject[],
  pid: number,
): Subject {
  const found = subjects.find(({ process }) => process.stat.pid === pid);
  if (found !== undefined) return found;
  const pids = subjects.map(({ process }) => process.stat.pid).sort((a, b) => a - b);
  const named = pids.slice(0, MAX_NAMED_PIDS).join(", ");
  const more = pids.length > MAX_NAMED_PIDS ? ` and ${pids.length - MAX_NAMED_PIDS} more` : "";
  const own = pids.length === 0 ? "it has no process" : `no such process; its processes are ${named}${more}`;
  throw new ControllerError("PROCESS_UNKNOWN", `Cannot ${what} pid ${pid} of worker "${id}": ${own}`);
}

/** How the process relates to the leader of its worker. */
export function relationOfSubject({ process, leader, members }: Subject): string {
  return relationOf(process.stat, leader, members);
}

/**
 * Describes what a process of a tree does. For the first of several processes (`isFirst`), adds why it is the first:
 * `pid 12 (python app.py), child of the leader, busiest of 3 processes: running, …`.
 */
export function describeSubject(subject: Subject, diagnosis: Diagnosis, isFirst: boolean): string {
  const { members, survey } = subject;
  if (members.size <= 1) return formatDiagnosis(diagnosis);
  const why = survey.isBusy
    ? `busiest of ${members.size} processes`
    : `none of its ${members.size} processes uses a CPU`;
  const name = `pid ${diagnosis.pid} (${diagnosis.command}), ${relationOfSubject(subject)}`;
  return formatDiagnosis(diagnosis, isFirst ? `${name}, ${why}` : name);
}
