/** The interface of fuzz targets, and generators that several of them use. */
import { SeededRandom } from "../support/random.ts";

/** Code that reads input from outside. Each case has its own seed, so that it can be repeated alone. */
export interface FuzzTarget {
  readonly name: string;
  /** Runs cases with seeds from `seed` on. @throws FuzzFailure at the first case that fails */
  readonly run: (seed: number, cases: number) => Promise<void>;
}

/** A case that failed, with the arguments that repeat it. */
export class FuzzFailure extends Error {
  constructor(target: string, seed: number, input: unknown, cause: unknown) {
    const why = cause instanceof Error ? (cause.stack ?? cause.message) : String(cause);
    const shown = (typeof input === "string" ? JSON.stringify(input) : JSON.stringify(input, undefined, 1)) ?? "";
    super(`--target ${target} --seed ${seed} --cases 1\ninput: ${shown.slice(0, 4000)}\n${why.slice(0, 4000)}`);
  }
}

/** A target whose cases need no shared resources. */
export function simpleTarget<Input>(
  name: string,
  make: (random: SeededRandom) => Input,
  check: (input: Input, random: SeededRandom) => void,
): FuzzTarget {
  return {
    name,
    run: async (seed, cases) => {
      for (let index = 0; index < cases; index++) {
        const random = new SeededRandom(seed + index);
        const input = make(random);
        try {
          check(input, random);
        } catch (error) {
          throw new FuzzFailure(name, seed + index, input, error);
        }
      }
    },
  };
}

/** Text with a few edits that delete, duplicate or replace parts, or insert pieces of `noise`. */
export function mutated(text: string, noise: readonly string[], random: SeededRandom, most = 3): string {
  let result = text;
  for (let count = random.between(1, most); count > 0; count--) {
    const at = random.between(0, result.length);
    const end = Math.min(result.length, at + random.between(0, random.chance(0.8) ? 6 : 60));
    const part = result.slice(at, end);
    const rest = result.slice(end);
    switch (random.between(0, 3)) {
      case 0:
        result = result.slice(0, at) + rest;
        break;
      case 1:
        result = result.slice(0, end) + part + rest;
        break;
      case 2:
        result = result.slice(0, at) + random.pick(noise) + rest;
        break;
      default:
        result = result.slice(0, end) + random.pick(noise) + rest;
    }
  }
  return result;
}

/** Text of up to `most` pieces of `alphabet`. */
export function textOf(alphabet: readonly string[], random: SeededRandom, most: number): string {
  let text = "";
  for (let count = random.between(0, most); count > 0; count--) text += random.pick(alphabet);
  return text;
}
