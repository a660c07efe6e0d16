/**
 * Decides whether a line is exactly one JSON object (RFC 8259), byte by byte, without building a value. Accepts what
 * JSON.parse accepts as an object, down to MAX_DEPTH levels, and nothing else. One exception is left to the caller:
 * bytes from 0x80 on are not checked inside strings. A line with `hasHighBytes` is an object only if it is also valid
 * UTF-8.
 *
 * Strings are read four bytes at a time, and no object is made per line: results are fields of the scanner.
 */

/** Maximum nesting depth; a line with deeper nesting is not treated as JSON. */
export const MAX_DEPTH = 512;

/** Bytes that must be readable after the newline of a scanned line, because loads are four bytes wide. */
export const SLACK_BYTES = 4;

// Four equal bytes in one signed 32-bit word.
const SPACES = 0x20202020;
const NEWLINES = 0x0a0a0a0a;
const QUOTES = 0x22222222;
const BACKSLASHES = 0x5c5c5c5c;
const ONES = 0x01010101;
const HIGHS = 0x80808080 | 0;

const TAB = 0x09;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const LOWER_A = 0x61;
const LOWER_E = 0x65;
const LOWER_F = 0x66;
const LOWER_N = 0x6e;
const LOWER_T = 0x74;
const LOWER_U = 0x75;
const LOWER_W = 0x77;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const TRUE = 0x65757274; // "true", little endian
const NULL = 0x6c6c756e; // "null"
const ALSE = 0x65736c61; // "alse"

/** `end` for findStringStop when a newline is known to follow. */
const NO_END = 0x7fffffff;

const OBJECT = 1;
const ARRAY = 0;

const WORKER_ID = "worker_id";
const WORKER_ID_BYTES = WORKER_ID.length;
const ESCAPE_BYTES = 6; // of \uXXXX

/**
 * The offset of the first byte in [at, end) that is not plain inside a JSON string (`"`, `\`, control or non-ASCII);
 * `end` if there is none. Reads up to three bytes past `end`.
 */
export function findStringStop(view: DataView, at: number, end: number): number {
  while (at < end) {
    const word = view.getInt32(at, true);
    // A byte's top bit is set if the byte is below 0x20, a quote, a backslash or above 0x7f. A borrow can only come
    // from a lower byte that is itself marked, so the lowest mark is always true.
    const marks = ((word - SPACES) | ((word ^ QUOTES) - ONES) | ((word ^ BACKSLASHES) - ONES) | word) & HIGHS;
    if (marks !== 0) return Math.min(end, at + ((31 - Math.clz32(marks & -marks)) >> 3));
    at += 4;
  }
  return end;
}

/** The offset of the first newline in [at, end); `end` if there is none. Reads up to three bytes past `end`. */
export function findNewline(view: DataView, at: number, end: number): number {
  for (; at < end; at += 4) {
    const word = view.getInt32(at, true) ^ NEWLINES;
    const marks = (word - ONES) & ~word & HIGHS;
    if (marks !== 0) return Math.min(end, at + ((31 - Math.clz32(marks & -marks)) >> 3));
  }
  return end;
}

/** Scans lines; its fields describe the last line for which `scan` returned true. */
export class JsonLineScanner {
  /** Offset of the opening brace. */
  open = 0;
  /** Offset of the newline that ends the line. */
  end = 0;
  /** Whether the object has no member. */
  isEmpty = false;
  /** Whether any string holds a byte from 0x80 on, whose encoding the caller must check. */
  hasHighBytes = false;
  /** Number of top-level keys that spell worker_id, with or without escapes; `keyStarts` and `keyEnds` locate them. */
  workerIdCount = 0;
  /** Offsets after the opening quotes of those keys; valid up to `workerIdCount`. */
  readonly keyStarts: number[] = [];
  /** Offsets of the closing quotes of those keys; valid up to `workerIdCount`. */
  readonly keyEnds: number[] = [];
  readonly #nesting = new Uint8Array(MAX_DEPTH + 1);

  /**
   * Whether the line that begins at `start` is one JSON object. There must be a newline at or after `start`, with
   * SLACK_BYTES readable after it.
   */
  // biome-ignore lint/complexity/noExcessiveLinesPerFunction: one loop over the bytes; a call per byte would halve the throughput
  scan(view: DataView, start: number): boolean {
    const nesting = this.#nesting;
    this.workerIdCount = 0;
    this.hasHighBytes = false;
    let at = skipSpace(view, start);
    if (view.getUint8(at) !== OPEN_BRACE) return false;
    this.open = at;
    nesting[1] = OBJECT;
    let depth = 1;
    at = skipSpace(view, at + 1);
    this.isEmpty = view.getUint8(at) === CLOSE_BRACE;
    // What comes next: a key of the innermost object, a value, or (if neither) what follows a value.
    let isKeyNext = !this.isEmpty;
    let isValueNext = false;
    for (;;) {
      let byte = view.getUint8(at);
      if (isKeyNext) {
        if (byte !== QUOTE) return false;
        const keyStart = at + 1;
        at = this.#skipString(view, keyStart);
        if (at < 0) return false;
        if (depth === 1) this.#noteKey(view, keyStart, at - 1);
        byte = view.getUint8(at);
        if (byte !== COLON) {
          at = skipSpace(view, at);
          if (view.getUint8(at) !== COLON) return false;
        }
        byte = view.getUint8(++at);
        if (byte <= SPACE) {
          at = skipSpace(view, at);
          byte = view.getUint8(at);
        }
        isKeyNext = false;
        isValueNext = true;
      }
      if (isValueNext) {
        isValueNext = false;
        if (byte === QUOTE) {
          at = this.#skipString(view, at + 1);
          if (at < 0) return false;
        } else if (byte <= NINE) {
          at = skipNumber(view, at, byte);
          if (at < 0) return false;
        } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
          if (depth === MAX_DEPTH) return false;
          const isObject = byte === OPEN_BRACE;
          nesting[++depth] = isObject ? OBJECT : ARRAY;
          at = skipSpace(view, at + 1);
          if (view.getUint8(at) !== (isObject ? CLOSE_BRACE : CLOSE_BRACKET)) {
            isKeyNext = isObject;
            isValueNext = !isObject;
            continue;
          }
        } else {
          at = skipLiteral(view, at, byte);
          if (at < 0) return false;
        }
        byte = view.getUint8(at);
      }
      // After a value, or at the end of an empty object or array.
      if (byte <= SPACE) {
        at = skipSpace(view, at);
        byte = view.getUint8(at);
      }
      if (byte === COMMA) {
        byte = view.getUint8(++at);
        if (byte <= SPACE) at = skipSpace(view, at);
        isKeyNext = nesting[depth] === OBJECT;
        isValueNext = !isKeyNext;
      } else if (byte === (nesting[depth] === OBJECT ? CLOSE_BRACE : CLOSE_BRACKET)) {
        at++;
        if (--depth === 0) break;
      } else {
        return false;
      }
    }
    at = skipSpace(view, at);
    this.end = at;
    return view.getUint8(at) === 0x0a;
  }

  /** The offset after the closing quote of the string whose first byte is at `at`; -1 if the string is invalid. */
  #skipString(view: DataView, at: number): number {
    for (;;) {
      at = findStringStop(view, at, NO_END);
      const byte = view.getUint8(at);
      if (byte === QUOTE) return at + 1;
      if (byte === BACKSLASH) {
        at = skipEscape(view, at);
        if (at < 0) return -1;
      } else if (byte >= 0x80) {
        this.hasHighBytes = true;
        do at++;
        while (view.getUint8(at) >= 0x80);
      } else {
        return -1;
      }
    }
  }

  /** Remembers the top-level key in [start, end) if it spells worker_id, escapes decoded. */
  #noteKey(view: DataView, start: number, end: number): void {
    const length = end - start;
    if (length < WORKER_ID_BYTES || length > WORKER_ID_BYTES * ESCAPE_BYTES) return;
    const first = view.getUint8(start);
    if (first !== LOWER_W && first !== BACKSLASH) return;
    let at = start;
    for (let index = 0; index < WORKER_ID_BYTES; index++) {
      let code = view.getUint8(at++);
      if (code === BACKSLASH) {
        // None of the letters has a short escape, so only \uXXXX can match. The string is already known to be valid.
        if (view.getUint8(at) !== LOWER_U) return;
        code = 0;
        for (let digit = 1; digit <= 4; digit++) code = code * 16 + hexValue(view.getUint8(at + digit));
        at += ESCAPE_BYTES - 1;
      }
      if (code !== WORKER_ID.charCodeAt(index)) return;
    }
    if (at !== end) return;
    this.keyStarts[this.workerIdCount] = start;
    this.keyEnds[this.workerIdCount] = end;
    this.workerIdCount++;
  }
}

function skipSpace(view: DataView, at: number): number {
  for (;;) {
    const byte = view.getUint8(at);
    if (byte !== SPACE && byte !== TAB && byte !== CARRIAGE_RETURN) return at;
    at++;
  }
}

/** The offset after the escape whose backslash is at `at`; -1 if the escape is invalid. */
function skipEscape(view: DataView, at: number): number {
  switch (view.getUint8(at + 1)) {
    case QUOTE:
    case BACKSLASH:
    case 0x2f: // the slash
    case 0x62: // b
    case LOWER_F:
    case LOWER_N:
    case 0x72: // r
    case LOWER_T:
      return at + 2;
    case LOWER_U:
      // Digit by digit: nothing may be readable after a newline that comes too early.
      for (let digit = 2; digit < ESCAPE_BYTES; digit++) if (hexValue(view.getUint8(at + digit)) < 0) return -1;
      return at + ESCAPE_BYTES;
    default:
      return -1;
  }
}

function hexValue(byte: number): number {
  if (byte >= ZERO && byte <= NINE) return byte - ZERO;
  const lower = byte | 0x20;
  return lower >= LOWER_A && lower <= LOWER_F ? lower - LOWER_A + 10 : -1;
}

/** The offset after the number that begins with `byte` at `at`; -1 if there is none. */
function skipNumber(view: DataView, at: number, byte: number): number {
  if (byte === MINUS) byte = view.getUint8(++at);
  if (byte === ZERO) byte = view.getUint8(++at);
  else if (byte > ZERO && byte <= NINE) {
    do byte = view.getUint8(++at);
    while (byte >= ZERO && byte <= NINE);
  } else return -1;
  if (byte === DOT) {
    byte = view.getUint8(++at);
    if (byte < ZERO || byte > NINE) return -1;
    do byte = view.getUint8(++at);
    while (byte >= ZERO && byte <= NINE);
  }
  if ((byte | 0x20) === LOWER_E) {
    byte = view.getUint8(++at);
    if (byte === PLUS || byte === MINUS) byte = view.getUint8(++at);
    if (byte < ZERO || byte > NINE) return -1;
    do byte = view.getUint8(++at);
    while (byte >= ZERO && byte <= NINE);
  }
  return at;
}

/** The offset after `true`, `false` or `null` at `at`; -1 if there is none. */
function skipLiteral(view: DataView, at: number, byte: number): number {
  if (byte === LOWER_T) return view.getInt32(at, true) === TRUE ? at + 4 : -1;
  if (byte === LOWER_N) return view.getInt32(at, true) === NULL ? at + 4 : -1;
  if (byte === LOWER_F) return view.getInt32(at + 1, true) === ALSE ? at + 5 : -1;
  return -1;
}
