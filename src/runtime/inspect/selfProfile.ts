/**
 * Profiles this process with V8 through an in-process session of the Node.js inspector; no port is opened. The
 * inspector is loaded on first use, and the session is disconnected afterwards.
 */
import type { HeapProfiler, Profiler } from "node:inspector";
import type { Session } from "node:inspector/promises";
import { setTimeout as wait } from "node:timers/promises";
import { requireThreads } from "../os/threads.ts";

/** Microseconds between two samples of the CPU. */
const CPU_INTERVAL_US = 1000;

/** Bytes allocated between two samples of the heap, on average. */
const HEAP_INTERVAL_BYTES = 32_768;

/**
 * Profiles CPU usage for `durationMs` or until `signal` aborts. V8 samples on a thread of its own and aborts the
 * process if it cannot start that thread. @throws ControllerError PROCESS_LIMIT
 */
export async function profileCpu(durationMs: number, signal: AbortSignal): Promise<Profiler.Profile> {
  requireThreads(1, "Cannot profile the controller");
  return inSession(async (session) => {
    await session.post("Profiler.enable");
    await session.post("Profiler.setSamplingInterval", { interval: CPU_INTERVAL_US });
    await session.post("Profiler.start");
    await waitFor(durationMs, signal);
    const { profile } = await session.post("Profiler.stop");
    await session.post("Profiler.disable");
    return profile;
  });
}

/** Samples allocations for `durationMs` or until `signal` aborts, and reports those still in use at the end. */
export async function profileHeap(durationMs: number, signal: AbortSignal): Promise<HeapProfiler.SamplingHeapProfile> {
  return inSession(async (session) => {
    await session.post("HeapProfiler.enable");
    await session.post("HeapProfiler.startSampling", { samplingInterval: HEAP_INTERVAL_BYTES });
    await waitFor(durationMs, signal);
    const { profile } = await session.post("HeapProfiler.stopSampling");
    await session.post("HeapProfiler.disable");
    return profile;
  });
}

async function inSession<T>(profile: (session: Session) => Promise<T>): Promise<T> {
  const { Session } = await import("node:inspector/promises");
  const session = new Session();
  session.connect();
  try {
    return await profile(session);
  } finally {
    session.disconnect();
  }
}

/** Microseconds between two samples of `profileCpu`, and bytes between two of `profileHeap`. */
export const SELF_PROFILE_PERIODS = { cpuMicros: CPU_INTERVAL_US, heapBytes: HEAP_INTERVAL_BYTES } as const;

async function waitFor(durationMs: number, signal: AbortSignal): Promise<void> {
  await wait(durationMs, undefined, { signal }).catch(() => {});
}
