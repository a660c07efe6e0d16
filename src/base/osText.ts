/**
 * Text from the system (environment variables, env_file) that need not be UTF-8, as a string that preserves every byte.
 * A byte that is not part of a character becomes half of a surrogate pair, U+DC80 to U+DCFF (as in Python's
 * surrogateescape), which no UTF-8 text contains. `isWellFormed()` is false for a string with such a byte.
 */

const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const ENCODER = new TextEncoder();

/** 0xdc00 plus the byte; bytes below 0x80 are always characters. */
const ESCAPE = 0xdc00;

/** Decodes arbitrary bytes to a string. */
export function decodeOsText(bytes: Uint8Array): string {
  try {
    return STRICT.decode(bytes);
  } catch {
    // Not UTF-8: decode byte by byte.
  }
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const length = characterBytes(bytes, at);
    text +=
      length === 0 ? String.fromCharCode(ESCAPE + (bytes[at] ?? 0)) : STRICT.decode(bytes.subarray(at, at + length));
    at += Math.max(length, 1);
  }
  return text;
}

/** Encodes such a string back to its bytes. */
export function encodeOsText(text: string): Uint8Array {
  if (text.isWellFormed()) return ENCODER.encode(text);
  const bytes: number[] = [];
  for (const character of text) {
    const code = character.charCodeAt(0);
    if (character.length === 1 && code >= ESCAPE + 0x80 && code <= ESCAPE + 0xff) bytes.push(code - ESCAPE);
    else bytes.push(...ENCODER.encode(character));
  }
  return Uint8Array.from(bytes);
}

/** Number of bytes of the character at `at`; 0 if none begins there (Unicode, table 3-7). */
function characterBytes(bytes: Uint8Array, at: number): number {
  const first = bytes[at] ?? 0;
  if (first < 0x80) return 1;
  const length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  const second = bytes[at + 1] ?? 0;
  const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < low || second > high) return 0;
  for (let next = 2; next < length; next++) if (((bytes[at + next] ?? 0) & 0xc0) !== 0x80) return 0;
  return length;
}
