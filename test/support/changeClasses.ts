import { configKind } from "../../src/config/config.ts";
import { type ChangeClass, everyKey } from "../../src/config/field.ts";

/**
 * The classes of each key, by its path; items of lists are `[]`, as in `supervisor.workers[].sockets[].name`.
 * Blocks themselves are left out. A pool's name has no class.
 */
export function changeClasses(): ReadonlyMap<string, readonly ChangeClass[]> {
  const keys = [...everyKey(configKind)].filter(({ field: { kind } }) => (kind.item ?? kind).keys === undefined);
  return new Map(keys.map(({ path, field }) => [path, field.change]));
}
