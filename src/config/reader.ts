/**
 * The state of reading one file: problems, warnings, the position of each key, the environment, and a budget that keeps
 * aliases from expanding a small file without limit. It determines the order and number of reported problems.
 */
import { printable } from "../base/printable.ts";
import { misplacedHint } from "./misplaced.ts";
import { MAX_TEXT_LENGTH, type TreeScalar } from "./tree.ts";
import { type Environment, type Piece, substituteVariables } from "./variables.ts";

/** A position in the file, both one-based; the column counts UTF-16 units. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** One error in the file, or a warning. */
export interface Problem extends Position {
  /** Such as `supervisor.workers[0].replicas`; empty for the whole file. */
  readonly path: string;
  readonly message: string;
}

/** The position of a value: its path and the offset to report. */
export interface Place {
  readonly path: string;
  readonly offset: number;
}

/** The text of a scalar after variable substitution. */
export interface ScalarText {
  readonly text: string;
  /** The same, with values of variables separate from text of the file. */
  readonly pieces: readonly Piece[];
  /** Whether it may be read as a number, a boolean and so on: not quoted, or substituted from a variable. */
  readonly plain: boolean;
  /** Whether a variable was substituted: it may be a secret, so no message shows it. */
  readonly isReplaced: boolean;
}

const MAX_PROBLEMS = 100;
// A file without aliases needs at most one unit per character and one per value.
const BUDGET = 4 * MAX_TEXT_LENGTH;

export class Reader {
  /** Offset of each key that is set, by path. */
  readonly offsets = new Map<string, number>();
  readonly #text: string;
  readonly #env: Environment;
  readonly #findBlocks: (key: string) => readonly string[];
  readonly #problems: (Place & { readonly message: string })[] = [];
  readonly #warnings: (Place & { readonly message: string })[] = [];
  #problemCount = 0;
  #budget = BUDGET;
  #lineStarts: readonly number[] | undefined;

  /** `findBlocks` returns the blocks of the schema that have a key. */
  constructor(text: string, env: Environment, findBlocks: (key: string) => readonly string[]) {
    this.#text = text;
    this.#env = env;
    this.#findBlocks = findBlocks;
  }

  get hasProblems(): boolean {
    return this.#problemCount > 0;
  }

  /** The end of a message: where a key belongs that the block at `path` does not have; or an empty string. */
  misplaced(key: string, path: string): string {
    return misplacedHint(this.#findBlocks(key), path);
  }

  problem(place: Place, message: string): void {
    this.#problemCount += 1;
    if (this.#problems.length < MAX_PROBLEMS) this.#problems.push({ ...place, message });
  }

  warning(place: Place, message: string): void {
    if (this.#warnings.length < MAX_PROBLEMS) this.#warnings.push({ ...place, message });
  }

  /** The text of `node`; undefined if a variable is invalid or the budget is spent (both are reported). */
  scalarText(node: TreeScalar, place: Place): ScalarText | undefined {
    if (!this.spend(node.text.length, place)) return undefined;
    const result = substituteVariables(node.text, this.#env);
    if (!result.ok) {
      this.problem(place, result.message);
      return undefined;
    }
    const { pieces, replaced } = result;
    const text = pieces.length === 1 ? (pieces[0]?.text ?? "") : pieces.map((piece) => piece.text).join("");
    return { text, pieces, plain: node.plain || replaced, isReplaced: replaced };
  }

  /** Takes one value and `length` characters from the budget; false if it is spent. */
  spend(length: number, place: Place): boolean {
    if (this.#budget <= 0) return false;
    this.#budget -= 1 + length;
    if (this.#budget <= 0) this.problem(place, "aliases expand the file to more than the limit");
    return this.#budget > 0;
  }

  /** Each problem once, in file order; at most 100, then one that counts the rest. */
  problems(): readonly Problem[] {
    const sorted = this.#locate(this.#problems);
    const rest = this.#problemCount - this.#problems.length;
    const last = sorted.at(-1);
    if (rest > 0 && last !== undefined) sorted.push({ ...last, path: "", message: `${rest} more problems` });
    return sorted;
  }

  warnings(): readonly Problem[] {
    return this.#locate(this.#warnings);
  }

  /** Line and column of an offset. */
  positionAt(offset: number): Position {
    this.#lineStarts ??= [0, ...this.#text.matchAll(/\n/gu).map((match) => match.index + 1)];
    let low = 0;
    let high = this.#lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#lineStarts[middle] ?? 0) <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - (this.#lineStarts[low] ?? 0) + 1 };
  }

  #locate(found: readonly (Place & { readonly message: string })[]): Problem[] {
    const seen = new Set<string>();
    const located: Problem[] = [];
    for (const { path, offset, message } of found.toSorted((a, b) => a.offset - b.offset)) {
      const problem = { ...this.positionAt(offset), path: printable(path), message: printable(message) };
      const identity = `${offset} ${path} ${problem.message}`;
      if (!seen.has(identity)) located.push(problem);
      seen.add(identity);
    }
    return located;
  }
}
