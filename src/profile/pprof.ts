/**
 * Profiles in pprof format (profile.proto of github.com/google/pprof), which `go tool pprof` and most viewers read.
 * Pure; the sender compresses a profile with gzip, as the format requires. Functions and locations are written once,
 * however many stacks contain them.
 */

/** One function in a stack. */
export interface Frame {
  readonly name: string;
  /** Empty if unknown. */
  readonly file: string;
  /** 0 if unknown. */
  readonly line: number;
}

/** The meaning of a stack's value, such as `cpu` in `nanoseconds`. */
export interface ValueType {
  readonly type: string;
  readonly unit: string;
}

export interface Stack {
  /** Outermost first. */
  readonly frames: readonly Frame[];
  /** One for each value type; whole numbers. */
  readonly values: readonly number[];
}

export interface Profile {
  /** What was profiled; used in place of the name of the binary. */
  readonly origin: string;
  readonly valueTypes: readonly ValueType[];
  /** The value that viewers show first. */
  readonly shownType: string;
  readonly stacks: readonly Stack[];
  /** The unit of the sampling period; `period` is its length. */
  readonly periodType: ValueType;
  readonly period: number;
  /** Start time in milliseconds since 1970, UTC. */
  readonly startedAtMs: number;
  readonly durationMs: number;
  /** Free text for readers; `go tool pprof -comments` prints it. */
  readonly comments: readonly string[];
}

/** Numbers of the fields in profile.proto. */
const PROFILE = {
  sampleType: 1,
  sample: 2,
  mapping: 3,
  location: 4,
  function: 5,
  string: 6,
  timeNanos: 9,
  durationNanos: 10,
  periodType: 11,
  period: 12,
  comment: 13,
  defaultSampleType: 14,
} as const;
const VALUE_TYPE = { type: 1, unit: 2 } as const;
const SAMPLE = { locationId: 1, value: 2 } as const;
const MAPPING = { id: 1, file: 5, hasFunctions: 7, hasFiles: 8, hasLines: 9 } as const;
const LOCATION = { id: 1, mappingId: 2, line: 4 } as const;
const LINE = { functionId: 1, line: 2 } as const;
const FUNCTION = { id: 1, name: 2, systemName: 3, file: 4 } as const;

/** The only mapping. Without one, viewers search for a binary to resolve names. */
const MAPPING_ID = 1;

const NANOS_PER_MS = 1_000_000;

/** Encodes a profile, without compression. */
export function encodePprof(profile: Profile): Uint8Array {
  const strings = new Numbering<string>(0);
  strings.of("", "");
  const text = (value: string) => strings.of(value, value);
  const functions = new Numbering<Frame>(1);
  const locations = new Numbering<Frame>(1);
  const out = new Message();

  const valueType = ({ type, unit }: ValueType) =>
    new Message().number(VALUE_TYPE.type, text(type)).number(VALUE_TYPE.unit, text(unit));
  for (const each of profile.valueTypes) out.message(PROFILE.sampleType, valueType(each));
  for (const { frames, values } of profile.stacks) {
    const ids = frames.map((frame) => locations.of(`${frame.line}\n${functionKey(frame)}`, frame)).reverse();
    out.message(PROFILE.sample, new Message().packed(SAMPLE.locationId, ids).packed(SAMPLE.value, values));
  }
  out.message(
    PROFILE.mapping,
    new Message()
      .number(MAPPING.id, MAPPING_ID)
      .number(MAPPING.file, text(profile.origin))
      .number(MAPPING.hasFunctions, 1)
      .number(MAPPING.hasFiles, 1)
      .number(MAPPING.hasLines, 1),
  );
  for (const [id, frame] of locations.entries()) {
    const line = new Message()
      .number(LINE.functionId, functions.of(functionKey(frame), frame))
      .number(LINE.line, frame.line);
    out.message(
      PROFILE.location,
      new Message().number(LOCATION.id, id).number(LOCATION.mappingId, MAPPING_ID).message(LOCATION.line, line),
    );
  }
  for (const [id, { name, file }] of functions.entries()) {
    out.message(
      PROFILE.function,
      new Message()
        .number(FUNCTION.id, id)
        .number(FUNCTION.name, text(name))
        .number(FUNCTION.systemName, text(name))
        .number(FUNCTION.file, text(file)),
    );
  }
  out
    // A double holds this value only to 256 ns, which is precise enough.
    .number(PROFILE.timeNanos, Math.round(profile.startedAtMs) * NANOS_PER_MS)
    .number(PROFILE.durationNanos, Math.round(profile.durationMs * NANOS_PER_MS))
    .message(PROFILE.periodType, valueType(profile.periodType))
    .number(PROFILE.period, profile.period)
    .packed(PROFILE.comment, profile.comments.map(text))
    .number(PROFILE.defaultSampleType, text(profile.shownType));
  // Last, because everything before may add strings.
  for (const [, value] of strings.entries()) out.bytes(PROFILE.string, new TextEncoder().encode(value));
  return out.finish();
}

function functionKey({ name, file }: Frame): string {
  return `${file}\n${name}`;
}

/** Numbers values by their key, in order of first use. */
class Numbering<Value> {
  readonly #first: number;
  readonly #known = new Map<string, readonly [number: number, value: Value]>();

  constructor(first: number) {
    this.#first = first;
  }

  of(key: string, value: Value): number {
    return this.#known.getOrInsertComputed(key, () => [this.#first + this.#known.size, value])[0];
  }

  entries(): Iterable<readonly [number: number, value: Value]> {
    return this.#known.values();
  }
}

const VARINT = 0;
const LENGTH_DELIMITED = 2;

/** A message in the wire format of Protocol Buffers (protobuf.dev, "Encoding"). */
class Message {
  readonly #bytes: number[] = [];

  /** A whole number, at least 0; 0 is the default and is not written. */
  number(field: number, value: number): this {
    if (value === 0) return this;
    this.#varint(field * 8 + VARINT);
    this.#varint(value);
    return this;
  }

  /** Repeated numbers. */
  packed(field: number, values: readonly number[]): this {
    const inner = new Message();
    for (const value of values) inner.#varint(value);
    return values.length === 0 ? this : this.message(field, inner);
  }

  message(field: number, value: Message): this {
    return this.bytes(field, value.#bytes);
  }

  bytes(field: number, value: ArrayLike<number> & Iterable<number>): this {
    this.#varint(field * 8 + LENGTH_DELIMITED);
    this.#varint(value.length);
    for (const byte of value) this.#bytes.push(byte);
    return this;
  }

  finish(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  /** Uses division, because shifts truncate to 32 bits. */
  #varint(value: number): void {
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#bytes.push((rest % 128) | 128);
    this.#bytes.push(rest);
  }
}
