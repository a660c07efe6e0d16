/** The exit of a leader that was not requested: a crash, or an exit that the restart policy expects. */
import { formatExit } from "../exit.ts";
import { type ExitVerdict, judgeExit } from "../policy/restart.ts";
import type { PoolSpec } from "../spec.ts";
import { afterEffects, type Transition, type WorkerEventOf } from "./event.ts";
import { decideAfterCrash, endForGood, respawnExpected } from "./spawn.ts";
import type { ActiveState, StopOrder } from "./state.ts";
import { beginStop, emitExited } from "./stop.ts";

/** The leader exited. Processes of its group that are left must exit before the slot may be used again. */
export function crashed(state: ActiveState, event: WorkerEventOf<"exited">, spec: PoolSpec): Transition {
  const { status, at, survivors, isDuringShutdown = false } = event;
  const verdict = judgeExit({ status, isDuringShutdown }, spec.stopSignal, spec.restart);
  const exit = formatExit(status);
  // The restart policy of a oneshot pool is not in the file, so its name explains nothing.
  const isClear = verdict.kind === "crash" || spec.type === "oneshot";
  const what = isClear ? exit : `${exit}: ${verdict.reason}`;
  const exited = { ...state, lastExit: status };
  const cause = causeOf(verdict);
  const emitted = emitExited(state, event, spec, cause !== undefined, cause);
  const next = survivors
    ? beginStop(exited, at, orderAfter(verdict, what), spec)
    : afterExit(exited, verdict, event, what, spec);
  return afterEffects([emitted], next);
}

function causeOf(verdict: ExitVerdict): "expected" | "completed" | undefined {
  if (verdict.kind === "expected") return "expected";
  return verdict.kind === "final" && !verdict.isFailure ? "completed" : undefined;
}

/** What follows once the survivors of an exit have exited. */
function orderAfter(verdict: ExitVerdict, what: string): StopOrder {
  const common = { cause: "survivors", reason: `${what}, processes of its group are left` } as const;
  switch (verdict.kind) {
    case "crash":
      return { ...common, next: "restart" };
    case "expected":
      return { ...common, next: "respawn" };
    case "final":
      return { ...common, next: "down", ends: verdict.isFailure ? "failed" : "completed" };
  }
}

function afterExit(
  exited: ActiveState,
  verdict: ExitVerdict,
  { at, random }: WorkerEventOf<"exited">,
  what: string,
  spec: PoolSpec,
): Transition {
  const uptimeMs = at - exited.spawnedAt;
  switch (verdict.kind) {
    case "crash":
      return decideAfterCrash(exited, at, uptimeMs, random, what, spec);
    case "expected":
      return respawnExpected(exited, at, uptimeMs, random, what, spec);
    case "final":
      return endForGood(exited, at, what, verdict.isFailure, spec);
  }
}
