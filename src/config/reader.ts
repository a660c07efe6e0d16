/**
 * What one reading of a file carries along: problems, warnings, where each key stands, the environment, and a budget
 * that keeps aliases from multiplying a small file into endless work. Order and number of problems are settled here.
 */
import { printable } from "../base/printable.ts";
import { misplacedHint } from "./misplaced.ts";
import { MAX_TEXT_LENGTH, type TreeScalar } from "./tree.ts";
import { type Environment, type Piece, substituteVariables } from "./variables.ts";

/** A place in the file, both from 1; the column counts UTF-16 units. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

/** One thing that is wrong (or, as a warning, doubtful) with the file. */
export interface Problem extends Position {
  /** Such as `supervisor.workers[0].replicas`; empty where it is about the file as a whole. */
  readonly path: string;
  readonly message: string;
}

/** Where a value stands: its path and the offset to point at. */
export interface Place {
  readonly path: string;
  readonly offset: number;
}

/** The text of a scalar after variables were replaced. */
export interface ScalarText {
  readonly text: string;
  /** The same, the values of variables apart from what stands in the file. */
  readonly pieces: readonly Piece[];
  /** May be read as a number, a boolean and so on: not quoted, or put in from a variable. */
  readonly plain: boolean;
  /** Whether a variable was put in: then it may be a secret, and no message shows it. */
  readonly isReplaced: boolean;
}

const MAX_PROBLEMS = 100;
// A file without aliases needs at most one unit a character and one a value.
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

  /** `findBlocks` gives the blocks of the whole file that have a key. */
  constructor(text: string, env: Environment, findBlocks: (key: string) => readonly string[]) {
    this.#text = text;
    this.#env = env;
    this.#findBlocks = findBlocks;
  }

  get hasProblems(): boolean {
    return this.#problemCount > 0;
  }

  /** Where a key belongs that the block at `path` does not have, as the end of a message; or nothing. */
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

  /** The text of `node`; undefined where a variable is wrong or the budget is spent (a problem says so). */
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

  /** Takes one value and `length` characters from the budget; false where it is spent. */
  spend(length: number, place: Place): boolean {
    if (this.#budget <= 0) return false;
    this.#budget -= 1 + length;
    if (this.#budget <= 0) this.problem(place, "aliases expand the file to far more than its length");
    return this.#budget > 0;
  }

  /** Every problem once, in the order of the file; at most 100, then one that counts the rest. */
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
