/** The annotator of log lines, compared with JSON.parse. No input, in chunks of any size, may be lost or changed. */
import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { LineAnnotator } from "../../src/logs/annotate.ts";
import { OutputBuffer } from "../../src/logs/outputBuffer.ts";
import type { SeededRandom } from "../support/random.ts";
import { simpleTarget } from "./target.ts";

const EPOCH_MS = 1_700_000_000_123;

const KEYS = [
  "a",
  "worker_id",
  "worker\\u005fid",
  "app_worker_id",
  "",
  "\\n",
  "ż",
  "level",
  "__proto__",
  "w\\u006frker_id",
];
const SCALARS = [
  "1",
  "-0.5e+10",
  "12345678901234567890",
  "true",
  "false",
  "null",
  '""',
  '"x"',
  '"\\u00e9\\ud800"',
  '"żółć 🎉"',
  '"\\"\\\\"',
];
const PIECES = [
  "{",
  "}",
  "[",
  "]",
  ":",
  ",",
  '"',
  "\\",
  " ",
  "\t",
  "\r",
  "0",
  "-",
  ".",
  "e",
  "true",
  "nul",
  "ERROR: ",
].concat(["\u0000", "\u001b", "\u007f", "é", "🎉", "\ufeff", "\u2028", '"worker_id":', "{}", "\\u12", "x".repeat(70)]);

function jsonText(random: SeededRandom, depth: number): string {
  const space = () => (random.chance(0.1) ? random.pick([" ", "\t", "\r", "  "]) : "");
  const kind = depth === 0 ? 2 : random.between(0, 3);
  if (kind > 1) return random.pick(SCALARS);
  const parts: string[] = [];
  for (let count = random.between(0, 3); count > 0; count--) {
    const value = space() + jsonText(random, depth - 1) + space();
    parts.push(kind === 0 ? `${space()}"${random.pick(KEYS)}"${space()}:${value}` : value);
  }
  return kind === 0 ? `{${parts.join(",")}${space()}}` : `[${parts.join(",")}]`;
}

function line(random: SeededRandom): Buffer {
  let bytes: Buffer;
  if (random.chance(0.75)) {
    const inner = random.chance(0.7) ? `{"k":${jsonText(random, 3)}}` : jsonText(random, 3);
    bytes = Buffer.from((random.chance(0.1) ? " " : "") + inner);
  } else {
    let text = "";
    for (let count = random.between(0, 8); count > 0; count--) text += random.pick(PIECES);
    bytes = Buffer.from(text);
  }
  for (let count = random.chance(0.5) ? 0 : random.between(1, 3); count > 0 && bytes.length > 0; count--) {
    const at = random.between(0, bytes.length - 1);
    const kind = random.between(0, 2);
    if (kind === 0) bytes[at] = random.chance(0.5) ? random.between(0, 255) : random.pick(PIECES).charCodeAt(0);
    else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
    else bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(random.pick(PIECES)), bytes.subarray(at)]);
  }
  return bytes;
}

interface Input {
  readonly bytes: Buffer;
  readonly maxLineBytes: number;
  readonly stream: "stdout" | "stderr";
}

function make(random: SeededRandom): Input {
  const lines: Buffer[] = [];
  for (let count = random.between(1, 4); count > 0; count--) lines.push(line(random), Buffer.from("\n"));
  if (random.chance(0.3)) lines.pop();
  const maxLineBytes = random.chance(0.8) ? 1_000_000 : random.between(4, 60);
  return { bytes: Buffer.concat(lines), maxLineBytes, stream: random.pick(["stdout", "stderr"] as const) };
}

function annotate({ bytes, maxLineBytes, stream }: Input, random: SeededRandom): Buffer {
  const annotator = new LineAnnotator({ pool: "web", workerId: "web-0", stream, maxLineBytes });
  const out = new OutputBuffer();
  const isWhole = random.chance(0.3);
  for (let at = 0; at < bytes.length; ) {
    const length = isWhole ? bytes.length : random.between(1, 20);
    const chunk = bytes.subarray(at, at + length);
    annotator.push(random.chance(0.5) ? Buffer.from(chunk) : chunk, EPOCH_MS, out);
    at += length;
  }
  annotator.end(EPOCH_MS, out);
  assert.equal(annotator.pendingBytes, 0);
  return Buffer.from(out.bytes.subarray(0, out.length));
}

/** The object in a line; undefined if the line is not exactly one JSON object. */
function objectOf(bytes: Buffer): Record<string, unknown> | undefined {
  if (!isUtf8(bytes)) return undefined;
  try {
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** The original bytes of a text record. */
function bytesOf(record: Record<string, unknown>, key: string): Buffer {
  const encoded = record["worker_bytes_base64"];
  return typeof encoded === "string" ? Buffer.from(encoded, "base64") : Buffer.from(String(record[key]));
}

function check(input: Input, random: SeededRandom): void {
  const { bytes, maxLineBytes, stream } = input;
  const out = annotate(input, random);
  assert.ok(isUtf8(out), "the output is UTF-8");
  const records = out.toString().split("\n");
  assert.equal(records.pop(), "", "every record ends");
  const key = stream === "stderr" ? "worker_error_msg" : "worker_info_msg";
  const lines: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const found = bytes.indexOf(10, at);
    const end = found === -1 ? bytes.length : found;
    lines.push(bytes.subarray(at, end));
    at = end + 1;
  }
  let next = 0;
  for (const each of lines) {
    const expected = each.length <= maxLineBytes ? objectOf(each) : undefined;
    const first = records[next++] ?? assert.fail("a record is missing");
    const record = JSON.parse(first) as Record<string, unknown>;
    assert.equal(record["worker_id"], "web-0");
    if (expected !== undefined) {
      const renamed = Object.entries(expected).map(([name, value]) => [
        name === "worker_id" ? "app_worker_id" : name,
        value,
      ]);
      const { worker_id: _, ...rest } = record;
      // A duplicate key has its last value at the position of its first occurrence.
      if (!("worker_id" in expected && "app_worker_id" in expected))
        assert.deepEqual(rest, Object.fromEntries(renamed as [string, unknown][]));
      // Without the added key the line is unchanged.
      const restored = first.replace('"worker_id":"web-0",', "").replace('"worker_id":"web-0"', "");
      if (!each.toString().includes("rker_id") && !/w\\u|\\u0?0?[57]/u.test(each.toString()))
        assert.equal(restored, each.toString());
      continue;
    }
    const parts = [bytesOf(record, key)];
    for (let part = record; "part" in part && part["last_part"] !== true; ) {
      part = JSON.parse(records[next++] ?? "") as Record<string, unknown>;
      assert.equal(part["part"], parts.length + 1);
      assert.ok(bytesOf(part, key).length <= maxLineBytes);
      parts.push(bytesOf(part, key));
    }
    assert.ok(parts.length > 1 === each.length > maxLineBytes, `${parts.length} parts of ${each.length} bytes`);
    assert.deepEqual(Buffer.concat(parts), each);
  }
  assert.equal(next, records.length, "an extra record");
}

export const LOG_LINES = simpleTarget("logLines", make, check);
