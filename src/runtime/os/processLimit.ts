/**
 * Names the limit that keeps the kernel from starting a process or thread (EAGAIN): pids.max of a control group,
 * RLIMIT_NPROC or a system-wide limit (clone(2), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/pids.rst).
 */
import { ControllerError } from "../../base/errors.ts";
import { groupDirectories, type ReadText } from "./cgroup.ts";
import { readText } from "./procFile.ts";

/** A limit on processes and threads, and how to raise it. */
export interface ProcessLimit {
  /** Such as `pids.max of its control group is 16`. */
  readonly text: string;
  readonly hint: string;
}

/**
 * Refuses a start that can never complete: `needed` processes and threads (listed in `parts`) plus its own threads.
 * @throws ControllerError PROCESS_LIMIT
 */
export function requireProcesses(needed: number, parts: string, read: ReadText = readText): void {
  const own = Number(/^Threads:\s*(\d+)/mu.exec(read("/proc/self/status") ?? "")?.[1] ?? 1);
  const tightest = groupsOf(read).toSorted((a, b) => a.max - b.max)[0];
  const nproc = userBound(read);
  const limit =
    tightest !== undefined && tightest.max < own + needed
      ? ofGroup(tightest)
      : nproc !== undefined && nproc.max < own + needed
        ? ofUser(nproc)
        : undefined;
  if (limit === undefined) return;
  throw new ControllerError(
    "PROCESS_LIMIT",
    `Cannot start the controller: it needs at least ${own + needed} processes and threads (its own ${own}, ${parts}), but ${limit.text}`,
    { hint: limit.hint },
  );
}

/** The limit that was most likely just reached. `uid` is the user of the new process; this process's if omitted. */
export function findProcessLimit(read: ReadText = readText, uid?: number): ProcessLimit {
  // Processes may have exited since, so the next best explanation is a limit reached earlier, or nearly reached.
  const groups = groupsOf(read);
  const group =
    groups.find(({ max, current }) => current >= max) ??
    groups.find(({ refusals }) => refusals > 0) ??
    groups.find(({ max, current }) => current + NEARLY >= max);
  if (group !== undefined) return ofGroup(group);
  const nproc = userBound(read, uid);
  if (nproc !== undefined) return ofUser(nproc);
  const [tightest] = groups.toSorted((a, b) => a.max - a.current - (b.max - b.current));
  if (tightest !== undefined) return ofGroup(tightest);
  return {
    text: "the system has no room for another process or thread",
    hint: "Look at kernel.pid_max, kernel.threads-max and free memory.",
  };
}

/** Whether a control group's limit has refused a process or thread: a program that cannot start its threads aborts. */
export function hasRefusedProcesses(read: ReadText = readText): boolean {
  return groupsOf(read).some(({ max, current, refusals }) => refusals > 0 || current >= max);
}

/** The error for a start that failed because of a limit; `what` is, for example, `Cannot start the controller`. */
export function processLimitError(what: string, cause?: unknown): ControllerError {
  const { text, hint } = findProcessLimit();
  return new ControllerError("PROCESS_LIMIT", `${what}: ${text}`, { hint, cause });
}

/** A group this close to its limit is named if nothing else explains a refusal. */
const NEARLY = 2;

interface PidsGroup {
  readonly max: number;
  readonly current: number;
  /** How often the limit has refused a process or thread. */
  readonly refusals: number;
}

function groupsOf(read: ReadText): PidsGroup[] {
  return groupDirectories("pids", ["pids"], read).flatMap(({ path }) => {
    // "max" is not a number.
    const max = Number.parseInt(read(`${path}/pids.max`) ?? "", 10);
    if (Number.isNaN(max)) return [];
    const current = Number.parseInt(read(`${path}/pids.current`) ?? "0", 10);
    const refusals = Number(/^max (\d+)/mu.exec(read(`${path}/pids.events`) ?? "")?.[1] ?? 0);
    return [{ max, current, refusals }];
  });
}

interface UserBound {
  readonly uid: number;
  readonly max: number;
}

/** RLIMIT_NPROC; undefined if it is unlimited. The kernel exempts root. */
function userBound(read: ReadText, of?: number): UserBound | undefined {
  const uid = of ?? Number(/^Uid:\s*(\d+)/mu.exec(read("/proc/self/status") ?? "")?.[1] ?? 0);
  const max = /^Max processes\s+(\d+)/mu.exec(read("/proc/self/limits") ?? "")?.[1];
  return uid === 0 || max === undefined ? undefined : { uid, max: Number(max) };
}

function ofUser({ uid, max }: UserBound): ProcessLimit {
  return {
    text: `RLIMIT_NPROC is ${max} for all processes and threads of uid ${uid}`,
    hint: "Raise the limit on processes of this user: ulimit -u, LimitNPROC in systemd, --ulimit nproc in podman and docker.",
  };
}

function ofGroup({ max, current }: PidsGroup): ProcessLimit {
  return {
    text: `pids.max of its control group is ${max}, ${current} of them in use`,
    hint: "Raise the limit on processes and threads: --pids-limit in podman and docker, podPidsLimit of the kubelet, TasksMax in systemd.",
  };
}
