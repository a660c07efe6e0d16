/** Processes long lists without blocking the event loop. */
import { monotonicMs } from "./monotonic.ts";

/** How long work may take in one turn of the event loop. */
export const TURN_MS = 8;

/** Calls `act` for each of `items` in turns of the event loop of about TURN_MS each, then calls `done`. */
export function inTurns<Item>(items: readonly Item[], act: (item: Item) => void, done?: () => void, from = 0): void {
  const deadline = monotonicMs() + TURN_MS;
  for (let index = from; index < items.length; index++) {
    if (index > from && monotonicMs() > deadline) {
      setImmediate(() => inTurns(items, act, done, index));
      return;
    }
    act(items[index] as Item);
  }
  done?.();
}
