/** The load client in a process of its own, so that it does not delay the measuring process. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { LoadOptions } from "../../test/support/load.ts";
import type { LoadReport } from "../../test/support/loadReport.ts";

const PROGRAM = join(import.meta.dirname, "..", "..", "test", "support", "load.ts");

export interface LoadProcess {
  /** Resolves when the load has ended by its own limits. Rejects if the process failed. */
  readonly finished: Promise<LoadReport>;
  /** Ends the load. */
  stop(): Promise<LoadReport>;
}

/** Starts a load client. It is killed when this process exits. */
export function spawnLoad(options: LoadOptions): LoadProcess {
  const child = spawn(process.execPath, ["--no-warnings", PROGRAM, JSON.stringify(options)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const onExit = (): void => void child.kill("SIGKILL");
  process.once("exit", onExit);
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  const finished = once(child, "close").then(([code]) => {
    process.off("exit", onExit);
    if (text === "") throw new Error(`the load client exited with ${code}`);
    return JSON.parse(text) as LoadReport;
  });
  // A caller may ignore the result, so an unhandled rejection must not end the run.
  finished.catch(() => {});
  return {
    finished,
    stop: () => {
      child.kill("SIGTERM");
      return finished;
    },
  };
}
