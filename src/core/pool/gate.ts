/** The gate of a pool: its first worker waits for pools that it depends on. The controller decides when it opens. */
import type { PoolSpec } from "../spec.ts";
import type { PoolDraft } from "./draft.ts";
import { firstGate, type Gate } from "./state.ts";

/** What the pool waits for has changed, or has happened. */
export function setGate(draft: PoolDraft, gate: Gate): void {
  const { name: pool, role } = draft.spec;
  const before = draft.gate;
  draft.gate = gate;
  // The proxy waits for the same as the pool behind it, whose events are enough.
  if (role === "proxy") return;
  if (!gate.isOpen) draft.emit({ kind: "pool_blocked", pool, isHopeless: gate.isHopeless, reason: gate.reason });
  else if (!before.isOpen && before.reason !== "") draft.emit({ kind: "pool_unblocked", pool, reason: before.reason });
}

/** Before a change of the specification: a pool that was removed waits again, and a blocked one may wait for less. */
export function regate(draft: PoolDraft, next: PoolSpec): void {
  const { spec, gate, roster, at } = draft;
  if (next.replicas > 0) draft.abandonedAt = undefined;
  if (spec.replicas === 0 && roster.workers.every(({ phase }) => phase === "down")) draft.gate = firstGate(next, at);
  else if (!gate.isOpen) draft.gate = { ...gate, isHopeless: false };
}

/** Why an operation cannot succeed: the pool will not start. */
export function whyHopeless({ spec, gate }: PoolDraft): string | undefined {
  if (gate.isOpen || !gate.isHopeless || spec.replicas === 0) return undefined;
  return `pool "${spec.name}" cannot start: it is ${gate.reason}`;
}
