/**
 * Number of CPUs available to this process: the size of its affinity mask, capped by the quotas of its control groups
 * (cgroups(7); Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst of the kernel).
 */
import { groupDirectories, type ReadText } from "./cgroup.ts";
import { readText } from "./procFile.ts";

/** CPUs for this process: an integer of at least 1. A fractional quota is rounded up. */
export function availableCpus(read: ReadText = readText): number {
  const mask = /^Cpus_allowed_list:\s*(\S+)/mu.exec(read("/proc/self/status") ?? "")?.[1];
  const quotas = groupDirectories("cpu", ["cpu", "cpu,cpuacct"], read).flatMap(
    ({ version, path }) => (version === 2 ? v2Quota(path, read) : v1Quota(path, read)) ?? [],
  );
  const cpus = Math.min(countCpus(mask ?? ""), ...quotas.map(Math.ceil));
  return Number.isFinite(cpus) ? Math.max(1, cpus) : 1;
}

/** Counts the members of a list such as "0-3,8"; infinity if the text is not a list. */
export function countCpus(list: string): number {
  let count = 0;
  for (const part of list.split(",")) {
    const match = /^(\d+)(?:-(\d+))?$/u.exec(part);
    if (match === null) return Number.POSITIVE_INFINITY;
    count += Number(match[2] ?? match[1]) - Number(match[1]) + 1;
  }
  return count;
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
