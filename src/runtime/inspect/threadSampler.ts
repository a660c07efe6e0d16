/**
 * Samples what the threads of a process do over time, from /proc: running, or where they wait. Works for any language
 * and needs only permission to see the process, which takes no part and is not slowed down.
 *
 * Bounded: at most as many threads as in a diagnosis, and at most a tenth of this thread's time.
 */

import { setTimeout as wait } from "node:timers/promises";
import { monotonicMs } from "../../base/monotonic.ts";
import { readStat } from "../os/procfs.ts";
import { readThreads, STATES, type ThreadDiagnosis } from "./diagnosis.ts";

/** Pause after a sample, as a multiple of the sample's duration. */
const REST_RATIO = 9;

/** One state in which a thread was sampled. */
export interface SampledStack {
  /** The process, the thread, its state and, if known, the system call and the kernel function. */
  readonly frames: readonly string[];
  readonly count: number;
  /** Total milliseconds in this state. */
  readonly elapsedMs: number;
}

export interface ThreadSampling {
  readonly stacks: readonly SampledStack[];
  readonly durationMs: number;
  /** Whether the process exited before the sampling time was over. */
  readonly hasEnded: boolean;
}

/** Samples the threads of `pid` until `durationMs` has passed, the process exits or `signal` aborts. Never rejects. */
export async function sampleThreads(
  pid: number,
  { durationMs, hz, signal }: { readonly durationMs: number; readonly hz: number; readonly signal: AbortSignal },
): Promise<ThreadSampling> {
  const startedAtMs = monotonicMs();
  const birth = readStat(pid)?.startTicks;
  const totals = new Map<string, { frames: readonly string[]; count: number; elapsedMs: number }>();
  for (let lastMs = startedAtMs; ; ) {
    const lookedAtMs = monotonicMs();
    const stat = readStat(pid);
    const hasEnded = stat === undefined || stat.startTicks !== birth || stat.state === "Z";
    if (hasEnded || signal.aborted || lookedAtMs - startedAtMs >= durationMs)
      return { stacks: [...totals.values()], durationMs: lookedAtMs - startedAtMs, hasEnded };
    for (const thread of readThreads(pid, stat)) {
      const frames = framesOf(stat.command, thread);
      const key = frames.join("\n");
      const total = totals.get(key) ?? { frames, count: 0, elapsedMs: 0 };
      totals.set(key, { frames, count: total.count + 1, elapsedMs: total.elapsedMs + (lookedAtMs - lastMs) });
    }
    lastMs = lookedAtMs;
    const costMs = monotonicMs() - lookedAtMs;
    const restMs = Math.max(1000 / hz - costMs, costMs * REST_RATIO);
    const leftMs = durationMs - (monotonicMs() - startedAtMs);
    await wait(Math.max(0, Math.min(restMs, leftMs)), undefined, { signal }).catch(() => {});
  }
}

function framesOf(command: string, { name, state, syscall, waitsIn }: ThreadDiagnosis): string[] {
  return [
    command,
    `thread ${name}`,
    STATES[state] ?? `in state ${state}`,
    ...(syscall === undefined ? [] : [`${syscall}()`]),
    ...(waitsIn === undefined ? [] : [waitsIn]),
  ];
}
