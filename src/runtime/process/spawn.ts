/**
 * Starts processes. A process that needs another identity, other limits and the like is started through the spawn shim,
 * which changes itself. The controller's own credentials and limits never change, in any thread.
 */

import { closeSync, readSync } from "node:fs";
import { monotonicMs } from "../../base/monotonic.ts";
import {
  awaitExit,
  FIRST_INHERITED_FD,
  openPipe,
  type ProcessRequest,
  SystemCallError,
  sendSignal,
  spawnProcess,
  waitReadable,
} from "../os/linux.ts";
import { decodeReports, encodeSettings, type ProcessSettings, shimPath } from "./spawnShim.ts";

/** How a process is started. */
export interface SpawnRequest extends ProcessRequest {
  readonly settings: ProcessSettings;
  /** Called for a setting that could not be applied; the program starts without it. */
  readonly onRefused?: (what: string, error: SystemCallError) => void;
}

/**
 * How long to wait for the shim. It needs less than a millisecond, but a process of the new user may suspend it. It
 * then counts as started: if its program cannot be executed after all, it exits with 127.
 */
const ANSWER_BOUND_MS = 250;

/** A process whose program may not have been executed yet. */
export interface StartedProcess {
  readonly pid: number;
  /** Waits until the program is executed. Call it once. @throws SystemCallError if exec fails; no process remains */
  confirm(): void;
}

/**
 * Starts a process in its own session and returns its pid. Waits until its program is executed, so that a failed exec
 * is reported immediately. @throws SystemCallError
 */
export function startProcess(request: SpawnRequest): number {
  const { pid, confirm } = beginProcess(request);
  confirm();
  return pid;
}

/**
 * Starts a process without waiting for its exec, so that the caller can do other work before confirm(). Without the
 * shim, settings are skipped, except for an identity, which is refused. @throws SystemCallError
 */
export function beginProcess(request: SpawnRequest): StartedProcess {
  const { settings, inheritedFds = [] } = request;
  const direct = () => ({ pid: spawnProcess(request), confirm: () => {} });
  const text = encodeSettings(settings, process.pid);
  if (text === "") return direct();
  const reportFd = FIRST_INHERITED_FD + inheritedFds.length;
  const file = shimPath(reportFd + 1);
  if (file === undefined) {
    if (settings.credentials === undefined) return direct();
    throw new Error("the spawn shim, which changes the user, cannot be executed");
  }
  const { readFd, writeFd } = openPipe(reportFd);
  try {
    const pid = spawnProcess({
      ...request,
      file,
      argv: [`r${reportFd};${text}`, request.cwd ?? "", request.file, ...request.argv],
      // The shim changes the directory, as the user of the process.
      cwd: undefined,
      inheritedFds: [...inheritedFds, writeFd],
    });
    return { pid, confirm: () => readReport(request, pid, readFd) };
  } catch (error) {
    closeSync(readFd);
    throw error;
  } finally {
    closeSync(writeFd);
  }
}

/** @throws SystemCallError */
function readReport({ file, onRefused }: SpawnRequest, pid: number, readFd: number): void {
  try {
    for (const { what, errno, isFatal } of decodeReports(readAnswer(readFd))) {
      const error = new SystemCallError(what === "execve" ? `exec of ${file}` : what, errno);
      if (!isFatal) onRefused?.(what, error);
      else {
        sendSignal(pid, "SIGKILL");
        awaitExit(pid);
        throw error;
      }
    }
  } finally {
    closeSync(readFd);
  }
}

/** More than the shim ever writes: one record for each setting. */
const answer = Buffer.alloc(1024);

/** Reads the shim's reports until exec closes its end. */
function readAnswer(fd: number): Buffer {
  const deadline = monotonicMs() + ANSWER_BOUND_MS;
  let length = 0;
  while (length < answer.length && waitReadable(fd, deadline - monotonicMs())) {
    const count = readSync(fd, answer, length, answer.length - length, null);
    if (count === 0) break;
    length += count;
  }
  return answer.subarray(0, length);
}
