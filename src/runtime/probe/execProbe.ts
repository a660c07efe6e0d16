/**
 * Probes by a command that runs beside the worker. Exit code 0 is success. A command that takes too long has failed and
 * is killed with its whole group; it counts as running until it has been reaped.
 */
import { messageOf } from "../../base/errors.ts";
import { formatExit } from "../../core/exit.ts";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import type { Helper, HelperControl, HelperRequest } from "../process/helpers.ts";
import { Attempt } from "./attempt.ts";

/** Runs the command; `reaped` is called once, when none of its processes run any more, even after disposal. */
export function attemptExec(
  helpers: HelperControl,
  request: HelperRequest,
  timeoutMs: number,
  settle: (outcome: AttemptOutcome) => void,
  reaped: () => void,
): Disposable {
  const attempt = new Attempt(timeoutMs, settle);
  let helper: Helper | undefined;
  let hasEnded = false;
  attempt.releaseBy(() => {
    if (!hasEnded) helper?.kill();
  });
  try {
    helper = helpers.spawnHelper(request, (status) => {
      hasEnded = true;
      if (status.kind === "code" && status.code === 0) attempt.succeed();
      else attempt.fail(`command ${formatExit(status)}`);
      reaped();
    });
  } catch (error) {
    // Out of processes or descriptors, or the command cannot be executed: the worker is not at fault.
    reaped();
    attempt.end({ kind: "error", reason: messageOf(error) });
  }
  return attempt;
}
