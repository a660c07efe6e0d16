/**
 * Makes text from outside printable: names of files and processes, command lines, output of programs, answers of a
 * controller. Control characters would reach a terminal as commands, bidirectional ones would show text in another order,
 * and lone surrogates are not characters. Every message and every command uses this file, so that none is forgotten.
 */

/**
 * Control characters (C0, DEL, C1), line and paragraph separators, halves of surrogate pairs, and invisible formatting
 * (bidirectional marks, tags); the joiners of scripts and emoji change nothing but the shape of their neighbours.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu;

/** The same but without newline and tab. */
const UNPRINTABLE_IN_LINES = /(?![\n\t])[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu;

/** White space among the control characters, and the zero byte, which separates arguments in /proc. */
const CONTROL_SPACE = /[\0\t\n\v\f\r\u0085\u2028\u2029]+/gu;

/** Text as one line: white space becomes a blank, every other unprintable character its escape. */
export function printable(text: string): string {
  return text.replace(CONTROL_SPACE, " ").replace(UNPRINTABLE, escapeOf);
}

/**
 * Text whose lines and tabs stay: every other unprintable character becomes its escape. In a JSON document this is the
 * same document, because such characters stand in its strings only, and the escapes are those of JSON.
 */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE_IN_LINES, escapeOf);
}

/** `\u009b`; a character beyond the first plane as its two halves. */
function escapeOf(character: string): string {
  const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}
