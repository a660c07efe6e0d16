/** The block `limits` of a pool. */
import { block, key } from "../field.ts";
import { duration, integer, isZero, number, oneOf, size } from "../scalars.ts";

const keys = {
  lifespanMs: key("lifespan", duration(), {
    change: "policy",
    unset: "unlimited",
    isUnset: isZero,
    since: "original",
    doc: "Maximum age. A worker that reaches it is replaced gracefully. 0 is the same as unset.",
  }),
  jitterRatio: key("jitter_ratio", number(0, 1), {
    change: "policy",
    default: 0,
    since: "original",
    doc: "Spreads `lifespan` and `requests`, so that workers are not all replaced at once: 0.1 gives 0.9 to 1.1 of the value.",
  }),
  memoryBytes: key("memory", size(), {
    change: "policy",
    unset: "unlimited",
    isUnset: isZero,
    since: "original",
    doc: "Memory limit of a worker, all its processes together. A worker above it in two consecutive samples, at least a second apart, is replaced gracefully. 0 is the same as unset.",
  }),
  memoryHardBytes: key("memory_hard", size(1), {
    change: "policy",
    unset: "unlimited",
    doc: "Hard memory limit; at least `memory`. A worker above it is killed at once with all its processes. If it was not ready yet, that counts as a crash.",
  }),
  memoryKind: key("memory_kind", oneOf(["rss", "pss"]), {
    change: "policy",
    default: "rss",
    doc: "How memory is counted over the worker's process tree: resident set size, or proportional set size, which divides shared pages among the processes that map them and costs more to read. `pss` of workers of another user needs CAP_SYS_PTRACE.",
  }),
  requests: key("requests", integer(1), {
    change: "policy",
    unset: "unlimited",
    doc: "Requests after which a worker is replaced, in proxy mode.",
  }),
};

export const limits = block(keys, {
  check: ({ memoryBytes, memoryHardBytes }, context) => {
    if (memoryBytes !== undefined && memoryHardBytes !== undefined && memoryHardBytes < memoryBytes)
      context.problem("memory_hard", "expected at least the value of memory");
  },
  foreign: {
    "memorymax maxmemory rss": "write memory, or memory_hard to kill at once",
    maxrequests: "write requests",
    "maxage maxlifetime age": "write lifespan",
    "nofile nproc core": "write rlimits, a key of the pool",
    "cpu cpus": "not supported; write autoscale.cpu for a target, or limit the container",
  },
});
