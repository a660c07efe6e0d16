/**
 * Finds the level that a text line states. Servers write most of their log to standard error, so the stream says
 * nothing about the level. Reads only the head of a line and recognises only forms that logging libraries write: a
 * level as the first word, in brackets, or after a time stamp. The table of forms is in level.test.ts.
 *
 * Runs for each line: it compares bytes and allocates nothing. A line that begins with an ordinary word costs only the
 * scan of that word.
 */

/** Levels of records, lowest first. */
export const RECORD_LEVELS = ["debug", "info", "warn", "error", "fatal"] as const;
export type RecordLevel = (typeof RECORD_LEVELS)[number];

/** The result for a line that states no level. */
export const NO_LEVEL = -1;

const DEBUG = 0;
const INFO = 1;
const WARN = 2;
const ERROR = 3;
const FATAL = 4;

/** Severities of syslog(3), 0 to 7. */
const BY_SEVERITY = [FATAL, FATAL, FATAL, ERROR, WARN, INFO, INFO, DEBUG];

/** Levels by the letters D, I, W, E and F (klog, Ruby) and C, tornado's critical. */
const BY_LETTER = new Int8Array(256).fill(NO_LEVEL);
for (const [level, letters] of ["D", "I", "W", "E", "FC"].entries())
  for (const letter of letters) BY_LETTER[letter.charCodeAt(0)] = level;

/** Maximum bytes at the head of a line that are searched for a level. */
const MAX_HEAD_BYTES = 128;
/** Maximum words (names of loggers, hosts, time zones) between a time stamp and a level. */
const MAX_WORDS = 2;
/** A number of at least this length, with at most one dot, is a time since 1970 in seconds or smaller units. */
const EPOCH_BYTES = 10;

/** Length of `2026-01-02 15:04:05`. */
const TIMESTAMP_BYTES = 19;

const TAB = 0x09;
const ESCAPE = 0x1b;
const SPACE = 0x20;
const QUOTE = 0x22;
const APOSTROPHE = 0x27;
const OPEN_PAREN = 0x28;
const CLOSE_PAREN = 0x29;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const SLASH = 0x2f;
const COLON = 0x3a;
const LESS = 0x3c;
const EQUALS = 0x3d;
const GREATER = 0x3e;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COLOUR_END = 0x6d; // m
const OPEN_BRACE = 0x7b;
const BAR = 0x7c;
const CLOSE_BRACE = 0x7d;
const LOWER = 0x20202020; // makes four letters lower case

// What a byte may begin or continue.
const OTHER = 0;
const SEPARATOR = 1;
const DIGIT = 2;
const LETTER = 3;
const BRACKET = 4;
const COLOUR = 5;
/** The bit of bytes that continue a word, and of those that continue a time stamp. */
const IN_WORD = 8;
const IN_TIME = 16;
const KIND_MASK = 7;

const KINDS = new Uint8Array(256);

function kindOf(byte: number): number {
  return KINDS[byte] as number;
}

for (const char of " \t-|:.,+()*#") KINDS[char.charCodeAt(0)] = SEPARATOR;
for (const char of "0123456789") KINDS[char.charCodeAt(0)] = DIGIT | IN_WORD | IN_TIME;
for (const char of "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
  KINDS[char.charCodeAt(0)] = LETTER | IN_WORD | IN_TIME;
for (const char of "-.@") KINDS[char.charCodeAt(0)] = SEPARATOR | IN_WORD;
for (const char of "-.,:+/") KINDS[char.charCodeAt(0)] = (KINDS[char.charCodeAt(0)] ?? OTHER) | IN_TIME;
for (const char of "[]") KINDS[char.charCodeAt(0)] = BRACKET;
KINDS[ESCAPE] = COLOUR;

/** Four letters as one little-endian word. */
function word(letters: string): number {
  let value = 0;
  for (let index = letters.length - 1; index >= 0; index--) value = (value << 8) | letters.charCodeAt(index);
  return value;
}

const LEVELS_BY_WORD = new Map<string, number>();
for (const [level, words] of [
  [DEBUG, "debug dbg dbug trace trce trc verbose"],
  [INFO, "info inf notice note log success"],
  [WARN, "warn warning wrn"],
  [ERROR, "error err severe fail"],
  [FATAL, "fatal ftl critical crit alert emerg panic pnc"],
] as const)
  for (const each of words.split(" ")) LEVELS_BY_WORD.set(each, level);

/** Hash table of level words, keyed by the first three letters and the length; no two words share a slot. */
const SLOTS = 256;
const FIRST = new Int32Array(SLOTS);
const SECOND = new Int32Array(SLOTS);
const LEVEL = new Int8Array(SLOTS).fill(NO_LEVEL);
for (const [text, level] of LEVELS_BY_WORD) {
  const slot = slotOf(word(text.slice(0, 4)), text.length);
  if (LEVEL[slot] !== NO_LEVEL) throw new RangeError(`level words collide at "${text}"`);
  FIRST[slot] = word(text.slice(0, 4));
  SECOND[slot] = word(text.slice(4));
  LEVEL[slot] = level;
}

function slotOf(first: number, length: number): number {
  return (Math.imul(first & 0xffffff, 0x9e3779b1) ^ Math.imul(length, 0x85ebca6b)) >>> 24;
}

const RROR = word("rror");
const TION = word("tion");
const TRAC = word("trac");
const LEVE = word("leve");
const SEVE = word("seve");
const LVL = word("lvl");
const EXCE = word("exce");
const FATA = word("fata");
const THRE = word("thre");

/** Levels that logrus truncates to four letters; INFO and WARN are level words anyway. */
const CUT_WORDS: ReadonlyMap<number, number> = new Map([
  [word("TRAC"), DEBUG],
  [word("DEBU"), DEBUG],
  [word("ERRO"), ERROR],
  [word("FATA"), FATAL],
  [word("PANI"), FATAL],
]);

/**
 * The index in RECORD_LEVELS of the level that the line in [start, end) states, or NO_LEVEL. Reads up to three bytes
 * past `end`.
 */
// biome-ignore lint/complexity/noExcessiveLinesPerFunction: one loop over the head of a line, whose cases share its state
export function findLevel(view: DataView, start: number, end: number): number {
  if (start >= end) return NO_LEVEL;
  const stop = Math.min(end, start + MAX_HEAD_BYTES);
  const first = view.getUint8(start);
  if (first === LESS) return levelOfPriority(view, start + 1, stop);
  if (first === SLASH) return isRubyError(view, start, end) ? ERROR : NO_LEVEL;
  let at = start;
  let isDated = false;
  let isInBracket = false;
  let words = 0;
  while (at < stop) {
    const byte = view.getUint8(at);
    const kind = kindOf(byte) & KIND_MASK;
    if (kind === SEPARATOR) {
      at++;
    } else if (kind === BRACKET) {
      isInBracket = byte === OPEN_BRACKET;
      if (isInBracket && isLetterAndDate(view, at + 1, stop)) return BY_LETTER[view.getUint8(at + 1)] ?? NO_LEVEL;
      isDated = true;
      at++;
    } else if (kind === DIGIT) {
      if (isTimestamp(view, at, stop)) {
        at += TIMESTAMP_BYTES;
        isDated = true;
        continue;
      }
      const from = at;
      let hasMark = false;
      let dots = 0;
      let next = byte;
      do {
        if (next === DOT) dots++;
        else if (next === COLON || next === SLASH || next === MINUS) hasMark = true;
        next = ++at < stop ? view.getUint8(at) : 0;
      } while ((kindOf(next) & IN_TIME) !== 0);
      // An address or a count at the beginning is not the head of a log line.
      const isTime = hasMark || (dots <= 1 && at - from >= EPOCH_BYTES);
      if (from === start && !isTime) return NO_LEVEL;
      isDated ||= isTime;
    } else if (kind === COLOUR) {
      // ESC [ … m
      do at++;
      while (at < stop && (kindOf(view.getUint8(at)) & KIND_MASK) !== LETTER);
      at++;
    } else if (kind === LETTER) {
      const from = at;
      do at++;
      while (at < stop && (kindOf(view.getUint8(at)) & IN_WORD) !== 0);
      const after = at < end ? view.getUint8(at) : SPACE;
      const length = at - from;
      if (after === EQUALS) {
        const valueAt = at + 1;
        if (isLevelKey(view, from, length)) return levelOfValue(view, valueAt, stop);
        at = skipValue(view, valueAt, stop);
        isDated = true;
        continue;
      }
      const level = levelOfWord(view, from, length);
      if (level !== NO_LEVEL && isLevelThere(view, start, from, at, stop, isInBracket, isDated)) return level;
      if (length === 4 && (after === OPEN_BRACKET || after === ESCAPE)) {
        // logrus on a terminal: "ERRO[0001] …", the word in colour or not
        const cut = CUT_WORDS.get(view.getInt32(from, true));
        if (cut !== undefined && (from === start || view.getUint8(from - 1) === COLOUR_END)) return cut;
      }
      if (isDated && after === COLON && length > 4) {
        const behind = levelBehindChannel(view, from, at);
        if (behind !== NO_LEVEL) return behind;
      }
      if (from === start) {
        const special = levelOfFirstWord(view, start, length, after, end);
        if (special !== NO_LEVEL) return special;
        if (!isDateOrProgram(view, start, length, after, stop)) return NO_LEVEL;
        // A level must directly follow a program name; after a month name, any part of a date may precede it.
        if (after === COLON) words = MAX_WORDS;
        isDated = true;
      } else if (!isInBracket && (!isDated || ++words > MAX_WORDS)) {
        return NO_LEVEL;
      }
    } else if (byte === OPEN_BRACE && isDated && !isInBracket) {
      // Airflow: "[2026-01-01T00:00:00.000+0000] {file.py:12} ERROR - …"
      do at++;
      while (at < stop && view.getUint8(at) !== CLOSE_BRACE);
      at++;
    } else if (!isInBracket && byte !== SLASH) {
      return NO_LEVEL;
    } else {
      at++;
    }
  }
  return NO_LEVEL;
}

/** Whether a date and a time begin at `at`, in one of the forms `2026-01-02T15:04:05` and `2026/01/02 15:04:05`. */
function isTimestamp(view: DataView, at: number, stop: number): boolean {
  if (at + TIMESTAMP_BYTES > stop) return false;
  const date = view.getUint8(at + 4);
  return (
    (date === MINUS || date === SLASH) &&
    view.getUint8(at + 7) === date &&
    view.getUint8(at + 13) === COLON &&
    view.getUint8(at + 16) === COLON
  );
}

/** Whether a level word is used as a level here, not as part of a sentence. */
function isLevelThere(
  view: DataView,
  start: number,
  from: number,
  to: number,
  stop: number,
  isInBracket: boolean,
  isDated: boolean,
): boolean {
  const before = from === start ? SPACE : view.getUint8(from - 1);
  const after = to < stop ? view.getUint8(to) : SPACE;
  if (isInBracket && (before === OPEN_BRACKET || before === COLON)) {
    // Alone in its brackets, except for padding spaces.
    let at = to;
    while (at < stop && view.getUint8(at) === SPACE) at++;
    if (at < stop && view.getUint8(at) === CLOSE_BRACKET) return true;
  }
  if (!isUpper(view, from, to)) {
    // In lower case a level is an ordinary word, unless it stands alone in its column or colour (winston, zap).
    if (after === ESCAPE) return before === COLOUR_END;
    if (after === TAB) return before === TAB;
    return after === COLON || after === BAR;
  }
  if (isInBracket) return true;
  return (
    (from === start || isDated || before === COLOUR_END) &&
    (after <= SPACE ||
      after === COLON ||
      after === BAR ||
      after === OPEN_BRACKET ||
      after === CLOSE_BRACKET ||
      after === OPEN_PAREN ||
      after === COMMA ||
      after === SLASH ||
      after === ESCAPE)
  );
}

/** Forms that only the first word of a line can have. */
function levelOfFirstWord(view: DataView, start: number, length: number, after: number, end: number): number {
  if (length === 1 && after === COMMA && start + 4 <= end && view.getUint8(start + 3) === OPEN_BRACKET) {
    // Ruby's Logger: "W, [2026-01-01T00:00:00 #1]  WARN -- : …"
    return BY_LETTER[view.getUint8(start)] ?? NO_LEVEL;
  }
  if (length === 5 && start + 9 <= end && view.getUint8(start + 8) === COLON) {
    // klog and glog: "W0102 15:04:05.000000 …"
    for (let digit = 1; digit < 5; digit++) if (!isDigit(view.getUint8(start + digit))) return NO_LEVEL;
    return BY_LETTER[view.getUint8(start)] ?? NO_LEVEL;
  }
  // "ValueError: …", "java.lang.IllegalStateException: …"
  if (after === COLON && length > 5) {
    const tail = view.getInt32(start + length - 4, true) | LOWER;
    if (tail === RROR || (tail === TION && view.getUint8(start + length - 5) === 0x70)) return ERROR;
  }
  if (after === SPACE) return levelOfSentence(view, start, length, end);
  return (after === COLON || after === SLASH) && isRubyError(view, start, end) ? ERROR : NO_LEVEL;
}

/** How runtimes begin the report of an uncaught error. */
function levelOfSentence(view: DataView, start: number, length: number, end: number): number {
  const low = view.getInt32(start, true) | LOWER;
  const next = start + length + 1;
  // "Traceback (most recent call last):"
  if (length === 9 && low === TRAC) return next < end && view.getUint8(next) === OPEN_PAREN ? ERROR : NO_LEVEL;
  // "Exception in thread "main" java.lang…", "Exception in thread Thread-1:"
  if (length === 9 && low === EXCE) return isText(view, next, end, "in thread ") ? ERROR : NO_LEVEL;
  // "fatal error: all goroutines are asleep"
  if (length === 5 && low === FATA) return isText(view, next, end, "error: ") ? FATAL : NO_LEVEL;
  // "thread 'main' panicked at src/main.rs:1:2:"
  if (length === 6 && low === THRE) return isRustPanic(view, next, end) ? ERROR : NO_LEVEL;
  // "TypeError [ERR_INVALID_ARG_TYPE]: …"
  if (length < 5 || (view.getInt32(start + length - 4, true) | LOWER) !== RROR) return NO_LEVEL;
  return isText(view, next, end, "[ERR_") ? ERROR : NO_LEVEL;
}

/** `'main' panicked at`; newer versions put a thread id before `panicked`. */
function isRustPanic(view: DataView, from: number, end: number): boolean {
  if (from >= end || view.getUint8(from) !== APOSTROPHE) return false;
  const stop = Math.min(end, from + MAX_HEAD_BYTES);
  let at = from + 1;
  while (at < stop && view.getUint8(at) !== APOSTROPHE) at++;
  at++;
  if (isText(view, at, end, " (")) while (at < stop && view.getUint8(at) !== CLOSE_PAREN) at++;
  if (at < stop && view.getUint8(at) === CLOSE_PAREN) at++;
  return isText(view, at, end, " panicked at ");
}

/** `app.rb:3:in 'run': undefined method 'x' (NoMethodError)` */
function isRubyError(view: DataView, start: number, end: number): boolean {
  if (end - start < 12 || view.getUint8(end - 1) !== CLOSE_PAREN) return false;
  if ((view.getInt32(end - 5, true) | LOWER) !== RROR) return false;
  const stop = Math.min(end, start + MAX_HEAD_BYTES);
  for (let at = start; at < stop; at++) {
    const byte = view.getUint8(at);
    if (byte <= SPACE) return false;
    if (byte !== COLON) continue;
    if (at - start < 3 || !isText(view, at - 3, end, ".rb:")) return false;
    do at++;
    while (at < stop && isDigit(view.getUint8(at)));
    return isText(view, at, end, ":in ");
  }
  return false;
}

/** Monolog: "[2026-01-01 00:00:00] production.ERROR: …" */
function levelBehindChannel(view: DataView, from: number, to: number): number {
  let dot = to - 1;
  while (dot > from && view.getUint8(dot) !== DOT) dot--;
  if (dot === from || !isUpper(view, dot + 1, to)) return NO_LEVEL;
  // EMERGENCY is the only level of more than eight letters.
  if (to - dot === 10) return isText(view, dot + 1, to, "EMERGENCY") ? FATAL : NO_LEVEL;
  return levelOfWord(view, dot + 1, to - dot - 1);
}

/** tornado and Jupyter: "[E 260101 00:00:00 web:1] …", "[E 2026-01-01 00:00:00.000 App] …" */
function isLetterAndDate(view: DataView, at: number, stop: number): boolean {
  if (at + 8 > stop || view.getUint8(at + 1) !== SPACE) return false;
  for (let digit = 2; digit < 6; digit++) if (!isDigit(view.getUint8(at + digit))) return false;
  return true;
}

function isText(view: DataView, at: number, end: number, expected: string): boolean {
  if (at + expected.length > end) return false;
  for (let index = 0; index < expected.length; index++)
    if (view.getUint8(at + index) !== expected.charCodeAt(index)) return false;
  return true;
}

/** Whether a level may follow the first word: "Jan  2 15:04:05", "PHP Warning:", "nginx: [emerg]". */
function isDateOrProgram(view: DataView, start: number, length: number, after: number, stop: number): boolean {
  if (after === COLON) return true;
  if (length !== 3 || after !== SPACE) return false;
  if (view.getUint8(start) === 0x50 && view.getUint8(start + 1) === 0x48 && view.getUint8(start + 2) === 0x50)
    return true;
  let at = start + 3;
  while (at < stop && view.getUint8(at) === SPACE) at++;
  return at < stop && isDigit(view.getUint8(at));
}

/** The level of `<N>` as in sd-daemon(3) and syslog; the facility is ignored. */
function levelOfPriority(view: DataView, at: number, stop: number): number {
  let priority = 0;
  for (let digits = 0; at < stop && digits < 4; digits++, at++) {
    const byte = view.getUint8(at);
    if (byte === GREATER && digits > 0) return BY_SEVERITY[priority & 7] ?? NO_LEVEL;
    if (!isDigit(byte)) return NO_LEVEL;
    priority = priority * 10 + byte - 0x30;
  }
  return NO_LEVEL;
}

/** Whether a logfmt key is level, lvl, severity or levelname. */
function isLevelKey(view: DataView, at: number, length: number): boolean {
  const low = view.getInt32(at, true) | LOWER;
  if (length === 3) return ((low ^ LVL) & 0xffffff) === 0;
  return (low === LEVE && (length === 5 || length === 9)) || (low === SEVE && length === 8);
}

function levelOfValue(view: DataView, at: number, stop: number): number {
  if (at < stop && view.getUint8(at) === QUOTE) at++;
  const from = at;
  while (at < stop && (kindOf(view.getUint8(at)) & KIND_MASK) === LETTER) at++;
  return levelOfWord(view, from, at - from);
}

/** The offset after a logfmt value. */
function skipValue(view: DataView, at: number, stop: number): number {
  const closing = at < stop && view.getUint8(at) === QUOTE ? QUOTE : SPACE;
  if (closing === QUOTE) at++;
  while (at < stop && view.getUint8(at) !== closing) at++;
  return at + 1;
}

function levelOfWord(view: DataView, at: number, length: number): number {
  if (length < 3 || length > 8) return NO_LEVEL;
  let low = view.getInt32(at, true) | LOWER;
  if (length === 3) low &= 0xffffff;
  const slot = slotOf(low, length);
  if (FIRST[slot] !== low || (LEVEL[slot] ?? NO_LEVEL) === NO_LEVEL) return NO_LEVEL;
  let high = 0;
  if (length > 4) {
    high = view.getInt32(at + 4, true) | LOWER;
    if (length < 8) high &= (1 << ((length - 4) * 8)) - 1;
  }
  return SECOND[slot] === high ? (LEVEL[slot] ?? NO_LEVEL) : NO_LEVEL;
}

/** Whether all letters of a level word are capitals. */
function isUpper(view: DataView, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if ((view.getUint8(at) & 0x20) !== 0) return false;
  return true;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
