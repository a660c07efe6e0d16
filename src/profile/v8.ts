/**
 * Converts results of V8's profilers (Chrome DevTools Protocol, Profiler.Profile, HeapProfiler.SamplingHeapProfile) to
 * stacks of a pprof profile. Pure.
 */
import type { Frame, Stack } from "./pprof.ts";

interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  /** Zero-based; -1 if unknown. */
  readonly lineNumber: number;
}

/** The parts of a CPU profile in use. */
export interface V8CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: CallFrame;
    readonly children?: readonly number[] | undefined;
  }[];
  /** Microseconds. */
  readonly endTime: number;
  readonly startTime: number;
  /** Ids of the innermost nodes, one per sample. */
  readonly samples?: readonly number[] | undefined;
  /** Microseconds since the previous sample. */
  readonly timeDeltas?: readonly number[] | undefined;
}

interface HeapNode {
  readonly callFrame: CallFrame;
  /** Bytes allocated here that are still in use, scaled up from samples. */
  readonly selfSize: number;
  readonly children: readonly HeapNode[];
}

/** The parts of a sampling heap profile in use. */
export interface V8HeapProfile {
  readonly head: HeapNode;
}

/** V8's names for the root and for waiting for events; neither is work. */
const ROOT = "(root)";
const IDLE = "(idle)";

/** Stacks with sample counts and nanoseconds as values. Time spent waiting for events is omitted. */
export function stacksOfCpuProfile({
  nodes,
  samples = [],
  timeDeltas = [],
  startTime,
  endTime,
}: V8CpuProfile): Stack[] {
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id])));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const totals = new Map<number, { count: number; micros: number }>();
  let at = startTime;
  for (const [index, id] of samples.entries()) {
    at += timeDeltas[index] ?? 0;
    // The innermost frame of a sample counts until the next sample.
    const micros = timeDeltas[index + 1] ?? Math.max(0, endTime - at);
    const total = totals.get(id) ?? { count: 0, micros: 0 };
    totals.set(id, { count: total.count + 1, micros: total.micros + Math.max(0, micros) });
  }
  return [...totals].flatMap(([top, { count, micros }]) => {
    const frames: Frame[] = [];
    for (let id: number | undefined = top; id !== undefined; id = parents.get(id)) {
      const frame = byId.get(id)?.callFrame;
      if (frame !== undefined && frame.functionName !== ROOT) frames.unshift(frameOf(frame));
    }
    const isWork = frames.length > 0 && frames.at(-1)?.name !== IDLE;
    return isWork ? [{ frames, values: [count, Math.round(micros * 1000)] }] : [];
  });
}

/** Stacks with bytes as values. */
export function stacksOfHeapProfile({ head }: V8HeapProfile): Stack[] {
  const stacks: Stack[] = [];
  const visit = ({ callFrame, selfSize, children }: HeapNode, outer: readonly Frame[]) => {
    const frames = callFrame.functionName === ROOT ? outer : [...outer, frameOf(callFrame)];
    if (selfSize > 0) stacks.push({ frames, values: [Math.round(selfSize)] });
    for (const child of children) visit(child, frames);
  };
  visit(head, []);
  return stacks;
}

function frameOf({ functionName, url, lineNumber }: CallFrame): Frame {
  return { name: functionName === "" ? "(anonymous)" : functionName, file: url, line: Math.max(0, lineNumber + 1) };
}
