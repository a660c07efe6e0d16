/**
 * The pool state machine: it passes events to the worker state machines and then reconciles the pool with its desired
 * state. It starts missing workers, stops surplus ones and replaces due ones, within the limits of the rollout policy.
 */
import { InvariantError } from "../../base/errors.ts";
import { PoolDraft } from "./draft.ts";
import { setGate } from "./gate.ts";
import { doubt, judgeHealth } from "./health.ts";
import { enqueue, failAll, operate } from "./operations.ts";
import { followReplacement, replaceDue } from "./replacements.ts";
import { scale } from "./scale.ts";
import { balanceStandby } from "./standby.ts";
import type { PoolEvent, PoolState, PoolTransition } from "./state.ts";

/**
 * Decides what `event` means for the pool. Unless it `startsFreely`, workers whose turn has come wait until they are
 * admitted. @throws InvariantError if the pool does not come to rest
 */
export function stepPool(state: PoolState, event: PoolEvent, startsFreely = true): PoolTransition {
  const at = "at" in event ? event.at : event.event.at;
  // A timer may fire while the event that clears its deadline waits to be handled.
  if (event.kind === "deadline" && (state.deadline === undefined || at < state.deadline)) return { state, effects: [] };
  const draft = new PoolDraft(state, at, "random" in event ? event.random : 0, startsFreely);
  switch (event.kind) {
    case "boot":
    case "deadline":
      draft.roster.markAllChanged();
      reconcile(draft);
      break;
    case "gate":
      setGate(draft, event.gate);
      draft.roster.markAllChanged();
      reconcile(draft);
      break;
    case "worker":
      draft.pass(event.slot, event.event);
      reconcile(draft);
      break;
    case "order":
      enqueue(draft, { id: event.id, order: event.order, reason: event.reason });
      reconcile(draft);
      break;
    case "leave":
      leave(draft);
      for (const { slot } of state.workers) draft.send(slot, { kind: "stop", order: event.order });
      break;
    case "kill":
      leave(draft);
      for (const { slot } of state.workers) draft.send(slot, { kind: "kill", reason: event.reason });
      break;
  }
  judgeHealth(draft);
  return draft.toTransition();
}

/** From now on nothing is started or replaced. */
function leave(draft: PoolDraft): void {
  draft.leaving = true;
  draft.deadline = undefined;
  draft.replacements = [];
  failAll(draft, "the controller shuts down");
}

/**
 * Repeats passes until one changes nothing, because a change may make room for another one. Each pass performs at least
 * one transition of a worker or an operation, and each of them has few without another event, which bounds the number.
 */
function reconcile(draft: PoolDraft): void {
  if (draft.leaving) {
    leave(draft);
    return;
  }
  const { roster, running, queue } = draft;
  let passes = 10 + 4 * (roster.workers.length + running.length + queue.length);
  while (runPass(draft)) {
    if (passes-- > 0) continue;
    const { state, effects } = draft.toTransition();
    throw new InvariantError(
      `pool "${state.spec.name}" does not come to rest after ${effects.length} effects: ${JSON.stringify(state)}`,
    );
  }
}

/** Whether it changed anything. */
function runPass(draft: PoolDraft): boolean {
  const effects = draft.effects.length;
  // Each pass sets the deadline again, from the state that it finds.
  draft.deadline = undefined;
  doubt(draft);
  for (const replacement of draft.replacements) followReplacement(draft, replacement);
  const hasOperated = operate(draft);
  balanceStandby(draft);
  replaceDue(draft);
  balanceStandby(draft);
  const hasFreed = scale(draft);
  return operate(draft) || hasOperated || hasFreed || draft.effects.length > effects;
}
