/**
 * Runs a tool and collects its output, limited in time and size. A tool that takes too long is killed with its group.
 * Its exit is not awaited, because the tool may hang in the process that it inspects.
 */
import { closeSync } from "node:fs";
import { Socket } from "node:net";
import type { ExitStatus } from "../../core/exit.ts";
import { openPipe } from "../os/linux.ts";
import type { ToolControl, ToolRequest } from "./helpers.ts";

/** Output beyond this is dropped. */
const MAX_OUTPUT_BYTES = 1 << 20;

/** How long to wait for remaining output after the tool exits. */
const REST_MS = 200;

export interface ToolAnswer {
  /** stdout and stderr, in order of arrival. */
  readonly output: string;
  /** undefined if it had not exited at its time limit, or was aborted. */
  readonly status: ExitStatus | undefined;
}

/** Resolves when the tool exits, after `boundMs`, or when `signal` aborts. @throws SystemCallError */
export function runTool(
  tools: ToolControl,
  request: Omit<ToolRequest, "outputFd">,
  boundMs: number,
  signal?: AbortSignal,
): Promise<ToolAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<ToolAnswer>();
  const chunks: Buffer[] = [];
  let bytes = 0;
  let status: ExitStatus | undefined;
  const pipe = openPipe();
  const reader = new Socket({ fd: pipe.readFd, readable: true, writable: false });
  reader.on("data", (chunk: Buffer) => {
    if (bytes < MAX_OUTPUT_BYTES) chunks.push(chunk.subarray(0, MAX_OUTPUT_BYTES - bytes));
    bytes += chunk.length;
  });
  reader.on("error", () => reader.destroy());
  const timers = [setTimeout(stop, boundMs)];
  const settle = () => {
    for (const timer of timers) clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
    reader.destroy();
    resolve({ output: Buffer.concat(chunks).toString("utf8"), status });
  };
  let kill = () => {};
  function stop(): void {
    kill();
    settle();
  }
  try {
    const helper = tools.spawnTool({ ...request, outputFd: pipe.writeFd }, (ended) => {
      status = ended;
      if (reader.closed) settle();
      else {
        reader.once("close", settle);
        // Processes that it left outside its group may hold the pipe open.
        timers.push(setTimeout(settle, REST_MS));
      }
    });
    kill = () => helper.kill();
    if (signal?.aborted === true) stop();
    else signal?.addEventListener("abort", stop);
  } catch (error) {
    // Before settle(): only the first settlement of a promise counts.
    reject(error);
    settle();
  } finally {
    closeSync(pipe.writeFd);
  }
  return promise;
}
