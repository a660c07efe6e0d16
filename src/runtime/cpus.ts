/**
 * How many CPUs this process really gets: what its affinity mask names, at most what the quotas of its control groups
 * allow (cgroups(7); Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst of the kernel).
 */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";

/** Reads a file as text; undefined where it cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** CPUs for this process: a whole number from 1 on; a fraction of a CPU in a quota counts as one. */
export function availableCpus(read: ReadText = readText): number {
  const mask = /^Cpus_allowed_list:\s*(\S+)/mu.exec(read("/proc/self/status") ?? "")?.[1];
  const quotas = (read("/proc/self/cgroup") ?? "").split("\n").flatMap((line) => quotasOf(line, read));
  const cpus = Math.min(countCpus(mask ?? ""), ...quotas.map(Math.ceil));
  return Number.isFinite(cpus) ? Math.max(1, cpus) : 1;
}

/** Members of a list such as "0-3,8"; infinity where the text is none. */
export function countCpus(list: string): number {
  let count = 0;
  for (const part of list.split(",")) {
    const match = /^(\d+)(?:-(\d+))?$/u.exec(part);
    if (match === null) return Number.POSITIVE_INFINITY;
    count += Number(match[2] ?? match[1]) - Number(match[1]) + 1;
  }
  return count;
}

/** Quotas, in CPUs, of the group that a line of /proc/self/cgroup names and of all groups around it. */
function quotasOf(line: string, read: ReadText): number[] {
  const match = /^\d+:([^:]*):(\/.*)$/u.exec(line);
  if (match === null) return [];
  const [, controllers = "", group = "/"] = match;
  if (controllers === "")
    return climb(["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], group, (path) => v2Quota(path, read));
  if (!controllers.split(",").includes("cpu")) return [];
  return climb(["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"], group, (path) => v1Quota(path, read));
}

/** Where the path is that of another namespace its directories do not exist; the topmost one still is our own. */
function climb(roots: readonly string[], group: string, quota: (path: string) => number | undefined): number[] {
  const found: number[] = [];
  for (const root of roots) {
    for (let at = group; ; at = dirname(at)) {
      const cpus = quota(at === "/" ? root : `${root}${at}`);
      if (cpus !== undefined) found.push(cpus);
      if (at === "/") break;
    }
  }
  return found;
}

function v2Quota(path: string, read: ReadText): number | undefined {
  const [quota, period] = (read(`${path}/cpu.max`) ?? "").trim().split(" ");
  return ratio(quota, period);
}

function v1Quota(path: string, read: ReadText): number | undefined {
  return ratio(read(`${path}/cpu.cfs_quota_us`), read(`${path}/cpu.cfs_period_us`));
}

/** "max" and -1 mean no quota. */
function ratio(quota: string | undefined, period: string | undefined): number | undefined {
  const cpus = Number(quota) / Number(period);
  return Number.isFinite(cpus) && cpus > 0 ? cpus : undefined;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
