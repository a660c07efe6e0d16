/**
 * CPU time and memory of each worker, summed over its process tree. Takes one listing of /proc for all workers
 * (ProcessTrees), then reads one small file for each process.
 *
 * A worker's CPU time never decreases, and no time is counted twice while processes start and exit. Each read adds what
 * every process used since the last read. When a parent waits for an exited child, the kernel adds the child's time to
 * the parent's cutime (proc_pid_stat(5)). The part already counted while the child was alive is excluded. Not counted:
 * processes that start and exit between two reads without a parent in the tree that waits for them.
 */
import type { TreeUsage } from "../../base/readings.ts";
import { isDead, type ProcessStat } from "../os/procfs.ts";

/** One process of a worker. */
export interface ProcessUsage {
  readonly pid: number;
  readonly parentPid: number;
  /** Start after boot in clock ticks; with the pid it identifies the process. */
  readonly startTicks: number;
  /** Name of the executable, at most 15 bytes of it. */
  readonly name: string;
  /** R, S, D, T … as in proc_pid_stat(5). */
  readonly state: string;
  /** User and system time of this process alone. */
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

/** The source of a worker's processes: ProcessTrees, or a fake in tests. */
export interface TreeMembers {
  refresh(maxAgeMs: number, mayHoldEnded: boolean): void;
  membersOf(leader: number): readonly number[];
  disown(pid: number): void;
}

/** The last reading of a process, updated in place because there may be thousands of long-lived processes. */
interface Known {
  readonly pid: number;
  readonly startTicks: number;
  parentPid: number;
  name: string;
  state: string;
  cpuTicks: number;
  reapedTicks: number;
  rssPages: number;
  /** Number of the last read that saw it. */
  seenIn: number;
  /** Time of exited children that was counted while they were alive and is not yet included in cutime. */
  owedTicks: number;
}

interface Account {
  cpuTicks: number;
  readonly processes: Map<number, Known>;
}

export interface TreeUsagesOptions {
  readonly trees: TreeMembers;
  readonly statOf: (pid: number) => ProcessStat | undefined;
  /** Clock ticks in a second: sysconf(_SC_CLK_TCK). */
  readonly ticksPerSecond: number;
  /** Bytes of a page of memory: sysconf(_SC_PAGESIZE). */
  readonly pageBytes: number;
}

export class TreeUsages {
  readonly #options: TreeUsagesOptions;
  readonly #accounts = new Map<number, Account>();
  #reads = 0;

  constructor(options: TreeUsagesOptions) {
    this.#options = options;
  }

  /**
   * Current usage of the workers with these leaders, by leader; a leader that has exited is absent. The listing of
   * processes may be `maxAgeMs` old: a process that started since then counts from the next listing on, with all its
   * time. Stats of leaders in `known` are not read again.
   */
  read(
    leaders: Iterable<number>,
    maxAgeMs: number,
    known?: ReadonlyMap<number, { readonly stat: ProcessStat }>,
  ): Map<number, TreeUsage> {
    this.#options.trees.refresh(maxAgeMs, true);
    this.#reads++;
    const usages = new Map<number, TreeUsage>();
    for (const leader of leaders) {
      const usage = this.#readOne(leader, known?.get(leader)?.stat);
      if (usage !== undefined) usages.set(leader, usage);
    }
    return usages;
  }

  /** The live processes of a worker as the last read saw them, parents before their children. */
  processesOf(leader: number): readonly ProcessUsage[] {
    const processes: ProcessUsage[] = [];
    const { ticksPerSecond, pageBytes } = this.#options;
    for (const known of this.#accounts.get(leader)?.processes.values() ?? []) {
      if (isDead(known)) continue;
      const { pid, parentPid, startTicks, name, state } = known;
      const cpuSeconds = known.cpuTicks / ticksPerSecond;
      const residentBytes = known.rssPages * pageBytes;
      processes.push({ pid, parentPid, startTicks, name, state, cpuSeconds, residentBytes });
    }
    return processes;
  }

  /** The worker with this leader has exited. */
  forget(leader: number): void {
    this.#accounts.delete(leader);
  }

  #readOne(leader: number, leaderStat: ProcessStat | undefined): TreeUsage | undefined {
    const { trees, statOf, ticksPerSecond, pageBytes } = this.#options;
    const account = this.#accounts.get(leader) ?? { cpuTicks: 0, processes: new Map<number, Known>() };
    const { processes } = account;
    /** How much the time of exited children has grown, for processes where it has. */
    const reaped: { known: Known; ticks: number }[] = [];
    let rssPages = 0;
    let processCount = 0;
    let isLeaderThere = false;
    let seen = 0;
    // Parents come first: a child reaped between the two reads is briefly missing, but never counted twice.
    for (const pid of trees.membersOf(leader)) {
      const stat = pid === leader && leaderStat !== undefined ? leaderStat : statOf(pid);
      if (stat === undefined) continue;
      const before = processes.get(pid);
      if (before !== undefined && before.startTicks !== stat.startTicks) {
        trees.disown(pid);
        continue;
      }
      if (pid === leader) isLeaderThere = true;
      seen++;
      if (!isDead(stat)) {
        rssPages += stat.rssPages;
        processCount++;
      }
      const known = before ?? newlyKnown(stat);
      if (before === undefined) processes.set(pid, known);
      account.cpuTicks += Math.max(0, stat.cpuTicks - known.cpuTicks);
      const ticks = stat.reapedTicks - known.reapedTicks;
      if (ticks > 0 || known.owedTicks > 0) reaped.push({ known, ticks });
      known.seenIn = this.#reads;
      known.parentPid = stat.ppid;
      known.cpuTicks = stat.cpuTicks;
      known.reapedTicks = stat.reapedTicks;
      known.rssPages = stat.rssPages;
      if (known.state !== stat.state) known.state = stat.state;
      if (known.name !== stat.command) known.name = stat.command;
    }
    if (!isLeaderThere) return undefined;
    this.#accounts.set(leader, account);
    const owed = processes.size > seen ? this.#settle(processes) : undefined;
    for (const { known, ticks } of reaped) {
      const newlyOwed = owed?.get(known) ?? 0;
      owed?.delete(known);
      account.cpuTicks += Math.max(0, ticks - known.owedTicks - newlyOwed);
      // Time missing from cutime at the second read stays missing: the parent does not wait for its children.
      known.owedTicks = Math.min(newlyOwed, Math.max(0, known.owedTicks + newlyOwed - ticks));
    }
    for (const [known, ticks] of owed ?? []) known.owedTicks = ticks;
    return { cpuSeconds: account.cpuTicks / ticksPerSecond, residentBytes: rssPages * pageBytes, processCount };
  }

  /**
   * Forgets the processes that have exited, and finds the process whose cutime will include their time: the nearest
   * live ancestor. If the tree has none (the parent exited first), the time stays counted and appears nowhere else.
   */
  #settle(processes: Map<number, Known>): Map<Known, number> {
    const owed = new Map<Known, number>();
    const ended: Known[] = [];
    for (const known of processes.values()) if (known.seenIn !== this.#reads) ended.push(known);
    for (const { parentPid, cpuTicks, reapedTicks, owedTicks } of ended) {
      let heir = processes.get(parentPid);
      for (let steps = 0; heir !== undefined && heir.seenIn !== this.#reads && steps < ended.length; steps++)
        heir = processes.get(heir.parentPid);
      if (heir === undefined || heir.seenIn !== this.#reads) continue;
      owed.set(heir, (owed.get(heir) ?? 0) + cpuTicks + reapedTicks + owedTicks);
    }
    for (const { pid } of ended) processes.delete(pid);
    return owed;
  }
}

/** A newly seen process with nothing counted yet. */
function newlyKnown({ pid, startTicks, ppid, command, state }: ProcessStat): Known {
  const nothing = { cpuTicks: 0, reapedTicks: 0, rssPages: 0, seenIn: 0, owedTicks: 0 };
  return { pid, startTicks, parentPid: ppid, name: command, state, ...nothing };
}
