/** Grandchildren of the controller: processes that a careless worker leaves behind. */

import { spawn } from "node:child_process";
import type { Flags } from "./flags.ts";

const LIFETIME_SECONDS = "100000";

/** Starts the grandchildren the flags ask for, with our stdout and stderr; returns their pids. */
export function startGrandchildren(flags: Flags): number[] {
  const pids: number[] = [];
  for (let index = 0; index < flags.grandchildren; index++) {
    const [command, args] = commandOf(flags);
    const child = spawn(command, args, {
      stdio: ["ignore", "inherit", "inherit"],
      detached: flags.grandchildSetsid,
    });
    child.unref();
    if (child.pid !== undefined) pids.push(child.pid);
  }
  return pids;
}

/** An ignored signal stays ignored through exec, so the sleep needs no handler of its own. */
function commandOf({ grandchildIgnoresTerm, grandchildSpins }: Flags): readonly [string, readonly string[]] {
  if (!grandchildIgnoresTerm && !grandchildSpins) return ["sleep", [LIFETIME_SECONDS]];
  const work = grandchildSpins ? "while :; do :; done" : `exec sleep ${LIFETIME_SECONDS}`;
  return ["sh", ["-c", grandchildIgnoresTerm ? `trap "" TERM INT; ${work}` : work]];
}
