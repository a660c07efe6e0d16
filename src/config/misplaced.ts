/** Finds the block where a misplaced key belongs. Derived from the declaration of all keys. */
import { everyKey } from "./field.ts";
import type { Kind } from "./kind.ts";

/** Maximum number of blocks in a hint, nearest first. */
const MAX_BLOCKS = 3;

/** The blocks that have each key, as paths such as `supervisor.workers[].server`. */
export function blocksByKey(root: Kind<unknown>): ReadonlyMap<string, readonly string[]> {
  const blocks = new Map<string, string[]>();
  for (const { field, blockPath } of everyKey(root))
    blocks.set(field.yaml, [...(blocks.get(field.yaml) ?? []), blockPath]);
  return blocks;
}

/** `; it belongs in server`, for a key in the block at `path` that only other `blocks` have; or an empty string. */
export function misplacedHint(blocks: readonly string[], path: string): string {
  const here = steps(path.replaceAll(/\[\d+\]/gu, "[]"));
  const ranked = blocks
    .map((block) => ({ block, distance: distance(here, steps(block)) }))
    .toSorted((a, b) => a.distance - b.distance);
  const near = ranked.filter((each) => each.distance === ranked[0]?.distance).slice(0, MAX_BLOCKS);
  if (near.length === 0) return "";
  const names = near.map(({ block }) => describeBlock(block, here.join(".")));
  const last = names.pop();
  return `; it belongs ${names.length === 0 ? last : `${names.join(", ")} or ${last}`}`;
}

function steps(path: string): readonly string[] {
  return path === "" ? [] : path.split(".");
}

/** Number of steps up and down from one block to another. */
function distance(from: readonly string[], to: readonly string[]): number {
  const common = from.findIndex((step, index) => to[index] !== step);
  return from.length + to.length - 2 * (common < 0 ? from.length : common);
}

/** Names a block, relative to the block `here` if it is inside. */
function describeBlock(block: string, here: string): string {
  if (block === "") return "at the top level";
  return `in ${here !== "" && block.startsWith(`${here}.`) ? block.slice(here.length + 1) : block}`;
}
