/**
 * Makes text from outside printable: names of files and processes, command lines, output of programs, responses of a
 * controller. Control characters would reach a terminal as commands, bidirectional characters would reorder the
 * displayed text, and lone surrogates are not characters. Every message and every command uses this file.
 */

/**
 * Control characters (C0, DEL, C1), line and paragraph separators, halves of surrogate pairs, and invisible formatting
 * (bidirectional marks, tags). Joiners of scripts and emoji are kept, because they only change their neighbours' shape.
 */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu;

/** The same but without newline and tab. */
const UNPRINTABLE_IN_LINES = /(?![\n\t])[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]|(?![\u200c\u200d])\p{Cf}/gu;

/** White space among the control characters, and the zero byte, which separates arguments in /proc. */
const CONTROL_SPACE = /[\0\t\n\v\f\r\u0085\u2028\u2029]+/gu;

/** Returns text as one line: white space becomes a blank, any other unprintable character its escape. */
export function printable(text: string): string {
  return text.replace(CONTROL_SPACE, " ").replace(UNPRINTABLE, escapeOf);
}

/**
 * Keeps newlines and tabs; every other unprintable character becomes its escape. A JSON document keeps its meaning,
 * because such characters occur only in its strings, and the escapes are valid JSON.
 */
export function printableLines(text: string): string {
  return text.replace(UNPRINTABLE_IN_LINES, escapeOf);
}

/** `\u009b`; a character outside the Basic Multilingual Plane becomes two escapes. */
function escapeOf(character: string): string {
  const units = Array.from({ length: character.length }, (_, at) => character.charCodeAt(at));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, "0")}`).join("");
}
