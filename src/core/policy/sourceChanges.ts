/** When changes of source files lead to a restart: once they have paused, and never while a restart runs. */
import { after, type Instant, instant } from "../../base/time.ts";

/** How long changes must pause. A save often changes several files. */
const PAUSE_MS = 300;

/** The longest that changes without a pause, such as those of a compiler, delay a restart. */
const MAX_DELAY_MS = 3000;

export interface SourceChanges {
  /** The first and the latest change since the last restart began; undefined if there is none. */
  readonly first: Instant | undefined;
  readonly last: Instant | undefined;
  readonly isRestarting: boolean;
}

export const NO_CHANGES: SourceChanges = { first: undefined, last: undefined, isRestarting: false };

export function noteChange({ first, isRestarting }: SourceChanges, at: Instant): SourceChanges {
  return { first: first ?? at, last: at, isRestarting };
}

/** When the next restart begins; undefined if none is due, or if it waits for the running one. */
export function restartAt({ first, last, isRestarting }: SourceChanges): Instant | undefined {
  if (first === undefined || last === undefined || isRestarting) return undefined;
  return instant(Math.min(after(last, PAUSE_MS), after(first, MAX_DELAY_MS)));
}

export function beginRestart(): SourceChanges {
  return { first: undefined, last: undefined, isRestarting: true };
}

/** After the restart, changes made during it need another one. */
export function endRestart(changes: SourceChanges): SourceChanges {
  return { ...changes, isRestarting: false };
}

/**
 * Whether a path did not exist before the changes either, such as a temporary file that was renamed. `renames`: how often
 * it was created or removed.
 */
export function isTemporary(renames: number, existsNow: boolean): boolean {
  return !existsNow && renames % 2 === 0;
}
