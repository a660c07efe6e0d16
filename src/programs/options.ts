/** Finds options in the words of a command. */

/** One occurrence of an option. */
export interface FoundOption {
  /** Index of its word, and the number of words that it takes. */
  readonly index: number;
  readonly length: 1 | 2;
  /** As written, without the value. */
  readonly name: string;
  /** Undefined if the option has none. */
  readonly value: string | undefined;
}

/** Each occurrence of an option with a value: `--port 80`, `--port=80`, `-p 80`, `-p80`. Words start at `from`. */
export function findOptions(words: readonly string[], names: readonly string[], from = 0): readonly FoundOption[] {
  const found: FoundOption[] = [];
  for (let index = from; index < words.length; index += 1) {
    const word = words[index] ?? "";
    if (word === "--") break;
    const name = names.find((each) => word === each || word.startsWith(`${each}=`) || isJoined(word, each));
    if (name === undefined) continue;
    if (word === name) {
      const value = words[index + 1];
      found.push({ index, length: value === undefined ? 1 : 2, name, value });
      index += 1;
    } else {
      const value = word.slice(name.length).replace(/^=/u, "");
      found.push({ index, length: 1, name, value });
    }
  }
  return found;
}

/** Each occurrence of an option without a value. */
export function findFlags(words: readonly string[], names: readonly string[], from = 0): readonly FoundOption[] {
  const end = words.indexOf("--", from);
  return words.slice(0, end === -1 ? words.length : end).flatMap((word, index) => {
    const name =
      index < from
        ? undefined
        : names.find((each) => word === each || (each.startsWith("--") && word.startsWith(`${each}=`)));
    return name === undefined ? [] : [{ index, length: 1, name, value: undefined } as const];
  });
}

/** `-p80`: a letter with its value in one word. */
function isJoined(word: string, name: string): boolean {
  return /^-[A-Za-z]$/u.test(name) && word.startsWith(name) && word.length > name.length && !word.startsWith("--");
}
