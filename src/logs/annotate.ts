/**
 * Turns the bytes of one stream of one worker into records that say where they come from.
 *
 * A line that is a JSON object gets `worker_id` after its opening brace and keeps every other byte. A worker_id of the
 * application is renamed, so each record has exactly one. Any other line becomes a JSON record with the line as text
 * and the level that level.ts finds. No byte is lost: invalid UTF-8 is also emitted in base64, overlong lines in parts.
 * The output does not depend on how the stream was cut into chunks. Pure: no input/output, no clock.
 */
import { isUtf8 } from "node:buffer";
import { findNewline, findStringStop, JsonLineScanner, SLACK_BYTES } from "./jsonLine.ts";
import { findLevel, NO_LEVEL, RECORD_LEVELS, type RecordLevel } from "./level.ts";
import type { OutputBuffer } from "./outputBuffer.ts";

const NEWLINE = 0x0a;
const SPACE = 0x20;
const OPEN_BRACE = 0x7b;
const TS_WIDTH = 14; // 1700000000.123; stays so until the year 2286
const CARRY_MIN_BYTES = 512;
/** How far to look for a newline before a call of indexOf, which is faster per byte, pays off. */
const NEAR_BYTES = 512;
const EMPTY = Buffer.alloc(0);
const EMPTY_VIEW = new DataView(EMPTY.buffer, 0, 0);

const RENAMED_KEY = "app_worker_id";
const INVALID_TAIL = '","worker_bytes_base64":"';

interface Escape {
  readonly low: number;
  readonly high: number;
  readonly count: number;
}

/** The JSON escape of each byte that cannot stand in a string (control, quote, backslash), for OutputBuffer.words. */
const ESCAPES = Array.from({ length: 256 }, (_, code): Escape | undefined => {
  const text = JSON.stringify(String.fromCharCode(code)).slice(1, -1);
  if (text.length === 1) return undefined;
  const bytes = Buffer.alloc(8);
  bytes.write(text);
  return { low: bytes.readInt32LE(0), high: bytes.readInt32LE(4), count: text.length };
});
const CLOSE = 0x0a7d22; // quote, brace, newline

/** Identifies a stream and sets its maximum line length. */
export interface LineOrigin {
  readonly pool: string;
  readonly workerId: string;
  readonly stream: "stdout" | "stderr";
  /** Longer lines (without their newline) are emitted in parts of at most this many bytes; at least 4. */
  readonly maxLineBytes: number;
  /** Level of text lines that state none; info if absent. */
  readonly level?: RecordLevel;
}

/** A text record up to its text, followed by slack; only the digits of ts change. */
interface Head {
  readonly bytes: Buffer;
  readonly view: DataView;
  readonly length: number;
  readonly tsAt: number;
  /** The time in the ts digits. */
  tsMs: number;
}

/** Annotates one stream. `push` takes chunks; `end` emits a last line that has no newline. */
export class LineAnnotator {
  /** Lines that were JSON objects. */
  linesJson = 0;
  /** All other lines; a line in parts counts once. */
  linesText = 0;
  /** Input bytes. */
  bytesIn = 0;
  /** Bytes of the records produced. */
  bytesOut = 0;
  /** Records that are parts of an overlong line. */
  partsSplit = 0;

  #maxLineBytes = 0;
  readonly #scanner: JsonLineScanner;
  /** Indexed by level, as in findLevel. */
  readonly #heads: (Head | undefined)[] = [];
  /** What follows the time in each head. */
  readonly #headRest: string;
  #defaultLevel = 0;
  /** stderr only: lines on stdout are info, as in the original. */
  readonly #findsLevels: boolean;
  /** `"worker_id":"…",` for a JSON object, followed by slack. */
  #insertion: DataView = EMPTY_VIEW;
  #insertionBytes = 0;
  readonly #workerId: string;
  #epochMs = 0;

  /** The bytes of an unfinished line: [0, #carryBytes) of #carry. Owns no memory while empty. */
  #carry: Buffer = EMPTY;
  #carryBytes = 0;
  /** Number of parts already emitted for the current line, and its level. */
  #parts = 0;
  #partLevel = 0;

  /** The whole memory of the last chunk; chunks of one read buffer share it. */
  #memory: ArrayBufferLike = EMPTY.buffer;
  #bytes: Buffer = EMPTY;
  #view: DataView = EMPTY_VIEW;
  /** Whether the bytes being processed are UTF-8; undefined until checked. */
  #isUtf8: boolean | undefined;
  #from = 0;
  #to = 0;

  /** `scanner` keeps no state between calls; with many streams, sharing one saves memory. */
  constructor(origin: LineOrigin, scanner: JsonLineScanner = new JsonLineScanner()) {
    this.configure(origin);
    this.#findsLevels = origin.stream === "stderr";
    this.#scanner = scanner;
    this.#workerId = `"worker_id":${JSON.stringify(origin.workerId)},`;
    this.#headRest =
      `,"pool":${JSON.stringify(origin.pool)},${this.#workerId}"stream":"${origin.stream}",` +
      `"${origin.stream === "stderr" ? "worker_error_msg" : "worker_info_msg"}":"`;
  }

  /**
   * Sets the options of every line that ends from now on. A buffered unfinished line is cut when more of it arrives.
   * @throws RangeError if maxLineBytes is below 4
   */
  configure({ maxLineBytes, level = "info" }: Pick<LineOrigin, "maxLineBytes" | "level">): void {
    if (!(maxLineBytes >= 4)) throw new RangeError("maxLineBytes must be at least 4, the longest character");
    this.#maxLineBytes = maxLineBytes;
    this.#defaultLevel = RECORD_LEVELS.indexOf(level);
  }

  /** Bytes of an unfinished line that are held back. */
  get pendingBytes(): number {
    return this.#carryBytes;
  }

  /**
   * Appends the records of all lines that `chunk` completes to `out`. `epochMs` (milliseconds since 1970) is the
   * time in text records. The chunk may be reused afterwards. It is fastest if SLACK_BYTES of memory follow the
   * chunk.
   */
  push(chunk: Uint8Array, epochMs: number, out: OutputBuffer): void {
    const lengthBefore = out.length;
    this.bytesIn += chunk.length;
    this.#epochMs = epochMs;
    let at = this.#look(chunk);
    const end = at + chunk.length;
    const last = at + chunk.lastIndexOf(NEWLINE);
    if (this.#carryBytes > 0) at = this.#finishCarry(at, last < at ? end : at + chunk.indexOf(NEWLINE), end, out);
    if (last >= at) {
      this.#expect(at, last);
      at = this.#lines(at, last, out);
    }
    if (at < end) this.#keep(this.#bytes, at, end, out);
    this.bytesOut += out.length - lengthBefore;
  }

  /** Appends the record of a last line that has no newline, if there is one. */
  end(epochMs: number, out: OutputBuffer): void {
    if (this.#carryBytes === 0) return;
    const lengthBefore = out.length;
    this.#epochMs = epochMs;
    this.#flushCarry(out);
    this.bytesOut += out.length - lengthBefore;
  }

  /** Makes #bytes and #view cover the memory of `chunk`; returns the offset at which the chunk begins. */
  #look(chunk: Uint8Array): number {
    if (chunk.byteOffset + chunk.length + SLACK_BYTES > chunk.buffer.byteLength) {
      chunk = padded(chunk);
    }
    if (chunk.buffer !== this.#memory) {
      this.#memory = chunk.buffer;
      this.#bytes = Buffer.from(chunk.buffer);
      this.#view = new DataView(chunk.buffer);
    }
    return chunk.byteOffset;
  }

  /** Declares that the lines in [from, to) are processed next, so that one check tells whether they are UTF-8. */
  #expect(from: number, to: number): void {
    this.#isUtf8 = undefined;
    this.#from = from;
    this.#to = to;
  }

  /** Processes all lines from `at` to the newline at `last`; returns the offset after it. */
  #lines(at: number, last: number, out: OutputBuffer): number {
    const view = this.#view;
    const bytes = this.#bytes;
    const scanner = this.#scanner;
    const maxLineBytes = this.#maxLineBytes;
    while (at <= last) {
      // The scanner skips leading space itself; a line that begins with anything else is text without a scan.
      const first = view.getUint8(at);
      if (
        (first === OPEN_BRACE || first <= SPACE) &&
        scanner.scan(view, at) &&
        scanner.end - at <= maxLineBytes &&
        (!scanner.hasHighBytes || this.#hasUtf8(bytes, at, scanner.end))
      ) {
        this.linesJson++;
        this.#object(view, at, out);
        at = scanner.end + 1;
        continue;
      }
      // Most lines have no byte to escape before their newline, so the search for one finds the newline as well.
      const stop = findStringStop(view, at, last);
      const near = findNewline(view, stop, Math.min(last, stop + NEAR_BYTES));
      const end = view.getUint8(near) === NEWLINE ? near : bytes.indexOf(NEWLINE, near);
      if (end - at > maxLineBytes) {
        this.#tail(bytes, view, this.#cut(bytes, view, at, end, out), end, out);
      } else {
        this.linesText++;
        this.#text(bytes, view, at, end, stop, 0, false, out);
      }
      at = end + 1;
    }
    return at;
  }

  /** Whether [start, end), a part of the bytes being processed, is UTF-8. */
  #hasUtf8(bytes: Buffer, start: number, end: number): boolean {
    this.#isUtf8 ??= isUtf8(bytes.subarray(this.#from, this.#to));
    return this.#isUtf8 || isUtf8(bytes.subarray(start, end));
  }

  /** Appends the record of the JSON object that the scanner has just found in the line at `start`. */
  #object(view: DataView, start: number, out: OutputBuffer): void {
    const { open, end, isEmpty, workerIdCount, keyStarts, keyEnds } = this.#scanner;
    if (this.#insertionBytes === 0) this.#makeInsertion();
    out.reserve(end + 1 - start + this.#insertionBytes + workerIdCount * RENAMED_KEY.length);
    out.copy(view, start, open + 1);
    out.copy(this.#insertion, 0, isEmpty ? this.#insertionBytes - 1 : this.#insertionBytes);
    let at = open + 1;
    for (let index = 0; index < workerIdCount; index++) {
      out.copy(view, at, keyStarts[index] ?? at);
      out.text(RENAMED_KEY);
      at = keyEnds[index] ?? at;
    }
    out.copy(view, at, end + 1);
  }

  /**
   * Appends the record of the text in [start, end): a line (part 0) or the given part of one. `stop` is the first byte
   * in it that is not plain, or `end`.
   */
  #text(
    bytes: Buffer,
    view: DataView,
    start: number,
    end: number,
    stop: number,
    part: number,
    isLast: boolean,
    out: OutputBuffer,
  ): void {
    const head = this.#headOf(view, start, end, part);
    if (head.tsMs !== this.#epochMs) this.#stamp(head);
    out.reserve(head.length + end - start);
    const lengthBefore = out.length;
    out.copy(head.view, 0, head.length);
    let at = start;
    let isKnown = false;
    for (let next = stop; ; next = findStringStop(view, at, end)) {
      out.copy(view, at, next);
      at = next;
      if (at === end) break;
      if (view.getUint8(at) < 0x80) {
        at = this.#escape(view, at, end, out);
        continue;
      }
      if (!isKnown && !this.#hasUtf8(bytes, start, end)) {
        out.length = lengthBefore + head.length;
        const raw = bytes.subarray(start, end);
        out.text(JSON.stringify(raw.toString()).slice(1, -1));
        out.text(INVALID_TAIL);
        out.text(raw.toString("base64"));
        break;
      }
      isKnown = true;
      const highStart = at;
      do at++;
      while (at < end && view.getUint8(at) >= 0x80);
      out.copy(view, highStart, at);
    }
    if (part > 0) {
      this.partsSplit++;
      out.text(isLast ? `","part":${part},"last_part":true}\n` : `","part":${part}}\n`);
    } else {
      out.reserve(3);
      out.words(CLOSE, 0, 3);
    }
  }

  /** Escapes the run of bytes at `at` that need it; returns where the run ends, at most `end`. */
  #escape(view: DataView, at: number, end: number, out: OutputBuffer): number {
    for (; at < end; at++) {
      const escaped = ESCAPES[view.getUint8(at)];
      if (escaped === undefined) break;
      out.reserve(escaped.count + end - at);
      out.words(escaped.low, escaped.high, escaped.count);
    }
    return at;
  }

  /** The head of the record of [start, end); all parts of a line have the level of the first. */
  #headOf(view: DataView, start: number, end: number, part: number): Head {
    if (!this.#findsLevels) return this.#headAt(this.#defaultLevel);
    let level = this.#partLevel;
    if (part <= 1) {
      level = findLevel(view, start, end);
      if (level === NO_LEVEL) level = this.#defaultLevel;
      if (part === 1) this.#partLevel = level;
    }
    return this.#headAt(level);
  }

  /** The head of a level. Created on first use: most workers use few levels, and many write nothing. */
  #headAt(level: number): Head {
    const known = this.#heads[level];
    if (known !== undefined) return known;
    const head = makeHead(RECORD_LEVELS[level] ?? "info", this.#headRest);
    this.#heads[level] = head;
    return head;
  }

  #makeInsertion(): void {
    const bytes = padded(this.#workerId);
    this.#insertion = viewOf(bytes);
    this.#insertionBytes = bytes.length - SLACK_BYTES;
  }

  /** Writes the time of the chunk into a head. */
  #stamp(head: Head): void {
    head.tsMs = this.#epochMs;
    head.bytes.write((this.#epochMs / 1000).toFixed(3).padStart(TS_WIDTH), head.tsAt, TS_WIDTH);
  }

  /** Writes full parts of [start, end) while it is too long for one record; returns where the rest begins. */
  #cut(bytes: Buffer, view: DataView, start: number, end: number, out: OutputBuffer): number {
    while (end - start > this.#maxLineBytes) {
      let stop = start + this.#maxLineBytes;
      // Do not cut inside a character. If none begins within three bytes, the text is not UTF-8.
      for (let back = 0; back < 4; back++) {
        if ((view.getUint8(stop - back) & 0xc0) === 0x80) continue;
        stop -= back;
        break;
      }
      this.#text(bytes, view, start, stop, findStringStop(view, start, stop), ++this.#parts, false, out);
      start = stop;
    }
    return start;
  }

  /** Appends the last part of an overlong line. */
  #tail(bytes: Buffer, view: DataView, start: number, end: number, out: OutputBuffer): void {
    this.linesText++;
    this.#text(bytes, view, start, end, findStringStop(view, start, end), this.#parts + 1, true, out);
    this.#parts = 0;
  }

  /**
   * Continues the unfinished line with [at, newline), where newline is `end` if the chunk has none; returns where the
   * next line begins.
   */
  #finishCarry(at: number, newline: number, end: number, out: OutputBuffer): number {
    this.#keep(this.#bytes, at, newline, out);
    if (newline === end) return end;
    this.#flushCarry(out);
    return newline + 1;
  }

  /** Adds [start, end), which holds no newline, to the unfinished line; emits full parts if it is too long. */
  #keep(bytes: Buffer, start: number, end: number, out: OutputBuffer): void {
    const neededBytes = this.#carryBytes + end - start + 1 + SLACK_BYTES;
    if (neededBytes > this.#carry.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(CARRY_MIN_BYTES, neededBytes, this.#carry.length * 2));
      this.#carry.copy(grown, 0, 0, this.#carryBytes);
      this.#carry = grown;
    }
    bytes.copy(this.#carry, this.#carryBytes, start, end);
    this.#carryBytes += end - start;
    if (this.#carryBytes <= this.#maxLineBytes) return;
    this.#expect(0, this.#carryBytes);
    this.#isUtf8 = false; // It may end inside a character, so each part is checked separately.
    const rest = this.#cut(this.#carry, this.#closedCarry(), 0, this.#carryBytes, out);
    this.#carry.copyWithin(0, rest, this.#carryBytes);
    this.#carryBytes -= rest;
  }

  /** Appends the record of the unfinished line and frees its memory. */
  #flushCarry(out: OutputBuffer): void {
    const view = this.#closedCarry();
    const carry = this.#carry;
    const end = this.#carryBytes;
    this.#carry = EMPTY;
    this.#carryBytes = 0;
    this.#expect(0, end);
    if (this.#parts > 0) {
      this.#tail(carry, view, 0, end, out);
      return;
    }
    const scanner = this.#scanner;
    if (scanner.scan(view, 0) && (!scanner.hasHighBytes || this.#hasUtf8(carry, 0, end))) {
      this.linesJson++;
      this.#object(view, 0, out);
    } else {
      this.linesText++;
      this.#text(carry, view, 0, end, findStringStop(view, 0, end), 0, false, out);
    }
  }

  /** The carry with a newline appended, as the scanner requires. */
  #closedCarry(): DataView {
    this.#carry[this.#carryBytes] = NEWLINE;
    return viewOf(this.#carry);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function makeHead(level: string, rest: string): Head {
  const start = `{"level":"${level}","ts":`;
  const bytes = padded(start + "0".repeat(TS_WIDTH) + rest);
  const length = bytes.length - SLACK_BYTES;
  return { bytes, view: viewOf(bytes), length, tsAt: start.length, tsMs: Number.NaN };
}

/** A copy followed by SLACK_BYTES, in memory of its own. */
function padded(content: string | Uint8Array): Buffer {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  const copy = Buffer.allocUnsafeSlow(bytes.length + SLACK_BYTES).fill(0);
  copy.set(bytes);
  return copy;
}
