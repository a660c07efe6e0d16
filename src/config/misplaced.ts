/** Finds the block where a misplaced key belongs. Derived from the declaration of all keys. */
import type { Kind } from "./field.ts";

/** Maximum number of places in a hint, nearest first. */
const MAX_PLACES = 3;

/** The blocks that have each key, as paths such as `supervisor.workers[].server`. */
export function blocksByKey(root: Kind<unknown>): ReadonlyMap<string, readonly string[]> {
  const blocks = new Map<string, string[]>();
  const visit = ({ parts }: Kind<unknown>, path: string): void => {
    if (parts?.type === "list") visit(parts.item, `${path}[]`);
    else if (parts?.type === "object") {
      for (const { yaml, kind } of parts.fields) {
        const others = blocks.get(yaml);
        if (others === undefined) blocks.set(yaml, [path]);
        else others.push(path);
        visit(kind, path === "" ? yaml : `${path}.${yaml}`);
      }
    }
  };
  visit(root, "");
  return blocks;
}

/** `, it belongs in server`, for a key in the block at `path` that only other `blocks` have; or an empty string. */
export function misplacedHint(blocks: readonly string[], path: string): string {
  const here = steps(path.replaceAll(/\[\d+\]/gu, "[]"));
  const ranked = blocks
    .map((block) => ({ block, distance: distance(here, steps(block)) }))
    .toSorted((a, b) => a.distance - b.distance);
  const near = ranked.filter((each) => each.distance === ranked[0]?.distance).slice(0, MAX_PLACES);
  if (near.length === 0) return "";
  const names = near.map(({ block }) => describeBlock(block, here.join(".")));
  const last = names.pop();
  return `, it belongs ${names.length === 0 ? last : `${names.join(", ")} or ${last}`}`;
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
