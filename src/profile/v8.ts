/**
 * What V8's profilers found (Chrome DevTools Protocol, Profiler.Profile and HeapProfiler.SamplingHeapProfile) as stacks of
 * a pprof profile. Pure.
 */
import type { Frame, Stack } from "./pprof.ts";

interface CallFrame {
  readonly functionName: string;
  readonly url: string;
  /** From 0 on; -1 where it is not known. */
  readonly lineNumber: number;
}

/** A CPU profile, as far as it is used. */
export interface V8CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: CallFrame;
    readonly children?: readonly number[] | undefined;
  }[];
  /** Microseconds. */
  readonly endTime: number;
  readonly startTime: number;
  /** Ids of the nodes on top, one a sample. */
  readonly samples?: readonly number[] | undefined;
  /** Microseconds between a sample and the one before. */
  readonly timeDeltas?: readonly number[] | undefined;
}

interface HeapNode {
  readonly callFrame: CallFrame;
  /** Bytes allocated here that are still in use, from samples scaled up. */
  readonly selfSize: number;
  readonly children: readonly HeapNode[];
}

/** A sampling heap profile, as far as it is used. */
export interface V8HeapProfile {
  readonly head: HeapNode;
}

/** What the root and waiting for events are called; neither is work. */
const ROOT = "(root)";
const IDLE = "(idle)";

/** Stacks with the values samples and nanoseconds. Time in which the process waited for events is left out. */
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
    // What was on top at a sample was there until the next one.
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

/** Stacks with the value bytes. */
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
