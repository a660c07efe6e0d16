import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { describe, test } from "node:test";
import fc from "fast-check";
import { LineAnnotator } from "./annotate.ts";
import { OutputBuffer } from "./outputBuffer.ts";

const EPOCH_MS = 1_700_000_000_123;
const HEAD =
  '{"level":"info","ts":1700000000.123,"pool":"web","worker_id":"web-0","stream":"stdout","worker_info_msg":"';

interface Options {
  stream?: "stdout" | "stderr";
  maxLineBytes?: number;
  /** Lengths of the chunks, used again and again; undefined: one chunk. */
  cuts?: readonly number[];
}

function newAnnotator(options: Options = {}): LineAnnotator {
  const { stream = "stdout", maxLineBytes = 1024 * 1024 } = options;
  return new LineAnnotator({ pool: "web", workerId: "web-0", stream, maxLineBytes });
}

function annotateBytes(input: string | Uint8Array, options: Options = {}, annotator = newAnnotator(options)): Buffer {
  const bytes = Buffer.from(input);
  const out = new OutputBuffer();
  const cuts = options.cuts ?? [bytes.length];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const length = Math.max(1, cuts[turn % cuts.length] ?? 1);
    // Some chunks have memory behind them, as a read buffer has, others have not.
    const chunk = turn % 2 === 0 ? Buffer.from(bytes.subarray(at, at + length)) : bytes.subarray(at, at + length);
    annotator.push(chunk, EPOCH_MS, out);
    at += length;
  }
  annotator.end(EPOCH_MS, out);
  assert.equal(annotator.pendingBytes, 0);
  assert.equal(annotator.bytesIn, bytes.length);
  assert.equal(annotator.bytesOut, out.length);
  return Buffer.from(out.bytes.subarray(0, out.length));
}

function annotate(input: string | Uint8Array, options: Options = {}): string {
  return annotateBytes(input, options).toString();
}

describe("annotation of JSON lines", () => {
  const cases: readonly (readonly [name: string, line: string, record: string])[] = [
    ["an object", '{"a":1}', '{"worker_id":"web-0","a":1}'],
    ["an empty object", "{}", '{"worker_id":"web-0"}'],
    ["an empty object with space", "{ }", '{"worker_id":"web-0" }'],
    ["space and CR around it", ' {"a":1} \r', ' {"worker_id":"web-0","a":1} \r'],
    [
      "key order and big numbers",
      '{"z":12345678901234567890,"a":1.0}',
      '{"worker_id":"web-0","z":12345678901234567890,"a":1.0}',
    ],
    ["a worker_id of its own", '{"a":1,"worker_id":"mine"}', '{"worker_id":"web-0","a":1,"app_worker_id":"mine"}'],
    [
      "several of them",
      '{"worker_id":1, "worker\\u005fid":2}',
      '{"worker_id":"web-0","app_worker_id":1, "app_worker_id":2}',
    ],
    ["a nested worker_id", '{"a":{"worker_id":1}}', '{"worker_id":"web-0","a":{"worker_id":1}}'],
    ["non-ASCII text", '{"a":"żółć 日本"}', '{"worker_id":"web-0","a":"żółć 日本"}'],
  ];
  for (const [name, line, record] of cases) {
    test(`keeps every other byte of ${name}`, () => {
      for (const cuts of [[1e6], [1], [3, 5]]) assert.equal(annotate(`${line}\n`, { cuts }), `${record}\n`);
      assert.equal(annotate(line), `${record}\n`, "without a final newline");
    });
  }

  test("escapes the worker id", () => {
    const annotator = new LineAnnotator({ pool: 'p"', workerId: 'p"-0', stream: "stdout", maxLineBytes: 100 });
    assert.equal(annotateBytes("{}\n", {}, annotator).toString(), '{"worker_id":"p\\"-0"}\n');
  });
});

describe("annotation of text lines", () => {
  const cases: readonly (readonly [name: string, line: string, text: string])[] = [
    ["plain text", "hello world", "hello world"],
    ["an empty line", "", ""],
    ["CRLF", "hello\r", "hello\\r"],
    ["NUL and control bytes", "a\u0000b\u0001c\td\u001be\u007f", "a\\u0000b\\u0001c\\td\\u001be\u007f"],
    ["quotes and backslashes", 'say "hi" \\o/', 'say \\"hi\\" \\\\o/'],
    ["garbage in braces", "{ garbage }", "{ garbage }"],
    ["a JSON array", "[1]", "[1]"],
    ["two objects", "{}{}", "{}{}"],
    ["non-ASCII", "zażółć 日本語 🎉", "zażółć 日本語 🎉"],
  ];
  for (const [name, line, text] of cases) {
    test(`makes a record of ${name}`, () => {
      for (const cuts of [[1e6], [1], [2, 7]]) assert.equal(annotate(`${line}\n`, { cuts }), `${HEAD}${text}"}\n`);
    });
  }

  const onStderr = (level: string, text: string) =>
    `{"level":"${level}","ts":1700000000.123,"pool":"web","worker_id":"web-0","stream":"stderr","worker_error_msg":"${text}"}\n`;

  test("uses the keys of standard error, and the level that the line states", () => {
    assert.equal(annotate("oops\n", { stream: "stderr" }), onStderr("info", "oops"));
    for (const cuts of [[1e6], [1], [3, 5]])
      assert.equal(
        annotate("INFO: up\n[ERROR] down\nhm\nW0102 15:04:05.0 x\n", { stream: "stderr", cuts }),
        onStderr("info", "INFO: up") +
          onStderr("error", "[ERROR] down") +
          onStderr("info", "hm") +
          onStderr("warn", "W0102 15:04:05.0 x"),
      );
    assert.equal(annotate("ERROR x\n"), `${HEAD}ERROR x"}\n`, "stdout is info, as in the original");
  });

  test("gives lines without a level the configured level, from then on", () => {
    const annotator = newAnnotator({ stream: "stderr" });
    const out = new OutputBuffer();
    annotator.configure({ maxLineBytes: 8, level: "warn" });
    annotator.push(Buffer.from("oops\nERROR: abcdefghijkl\n"), EPOCH_MS, out);
    const records = out.bytes.toString("utf8", 0, out.length).trimEnd().split("\n");
    assert.deepEqual(
      records.map((record) => [JSON.parse(record).level, JSON.parse(record).worker_error_msg]),
      [
        ["warn", "oops"],
        ["error", "ERROR: a"],
        ["error", "bcdefghi"],
        ["error", "jkl"],
      ],
    );
  });

  test("adds the bytes of a line that is not UTF-8, but not of its neighbours", () => {
    const bad = Buffer.from([0x61, 0xff, 0x22, 0x00, 0x62]);
    const input = Buffer.concat([
      Buffer.from('é\n{"a":"é"}\n'),
      bad,
      Buffer.from('\n{"a":"'),
      bad,
      Buffer.from("\nż\n"),
    ]);
    const lines = annotate(input).split("\n");
    assert.equal(lines[0], `${HEAD}é"}`);
    assert.equal(lines[1], '{"worker_id":"web-0","a":"é"}');
    assert.equal(lines[2], `${HEAD}a\ufffd\\"\\u0000b","worker_bytes_base64":"${bad.toString("base64")}"}`);
    assert.equal(JSON.parse(lines[3] ?? "").worker_info_msg, '{"a":"a\ufffd"\u0000b');
    assert.equal(lines[4], `${HEAD}ż"}`);
    assert.equal(lines[5], "");
  });

  test("emits an unfinished last line once", () => {
    const annotator = newAnnotator();
    const out = new OutputBuffer();
    annotator.push(Buffer.from("half"), EPOCH_MS, out);
    assert.equal(out.length, 0);
    assert.equal(annotator.pendingBytes, 4);
    annotator.end(EPOCH_MS, out);
    annotator.end(EPOCH_MS, out);
    assert.equal(out.bytes.toString("utf8", 0, out.length), `${HEAD}half"}\n`);
  });

  test("stamps each chunk with its own time", () => {
    const annotator = newAnnotator();
    const out = new OutputBuffer();
    annotator.push(Buffer.from("a\n"), 1_700_000_000_000, out);
    annotator.push(Buffer.from("b\n"), 1_700_000_001_500, out);
    const records = out.bytes.toString("utf8", 0, out.length).trimEnd().split("\n");
    assert.deepEqual(
      records.map((record) => JSON.parse(record).ts),
      [1_700_000_000, 1_700_000_001.5],
    );
  });
});

describe("overlong lines", () => {
  test("are emitted in parts that add up to the line, never cut inside a character", () => {
    const line = `${"ab".repeat(30)}żółć日本🎉${"x".repeat(41)}`;
    const records = annotate(`before\n${line}\nafter\n`, { maxLineBytes: 16 })
      .trimEnd()
      .split("\n")
      .map((text) => JSON.parse(text));
    const parts = records.slice(1, -1);
    assert.equal(parts.map((record) => record.worker_info_msg).join(""), line);
    assert.deepEqual(
      parts.map((record) => record.part),
      parts.map((_, index) => index + 1),
    );
    assert.deepEqual(
      parts.map((record) => record.last_part ?? false),
      parts.map((_, index) => index === parts.length - 1),
    );
    for (const record of parts) {
      assert.ok(Buffer.byteLength(record.worker_info_msg) <= 16);
      assert.equal(record.worker_bytes_base64, undefined);
    }
    assert.equal(records[0].worker_info_msg, "before");
    assert.equal(records.at(-1).worker_info_msg, "after");
  });

  test("are whole up to and including the limit, JSON objects too", () => {
    assert.equal(annotate("12345678\n", { maxLineBytes: 8 }), `${HEAD}12345678"}\n`);
    assert.equal(annotate('{"a":12}\n', { maxLineBytes: 8 }), '{"worker_id":"web-0","a":12}\n');
    assert.equal(
      annotate('{"a":123}\n', { maxLineBytes: 8 }),
      `${HEAD}{\\"a\\":123","part":1}\n${HEAD}}","part":2,"last_part":true}\n`,
    );
  });

  test("count as one line each", () => {
    const annotator = newAnnotator({ maxLineBytes: 8 });
    annotateBytes(`${"x".repeat(20)}\n{}\nshort\n${"y".repeat(9)}`, {}, annotator);
    assert.deepEqual([annotator.linesText, annotator.linesJson, annotator.partsSplit], [3, 1, 5]);
  });
});

describe("any stream", () => {
  const piece = fc.oneof(
    fc.constantFrom(
      "\n",
      "\r\n",
      "{}",
      "{",
      "}",
      '"',
      "\\",
      '{"worker_id":1}',
      '{"a":"é"}',
      "日本🎉",
      "\u0000",
      " ",
      "long ".repeat(9),
    ),
    fc.uint8Array({ maxLength: 6 }),
    fc.json().map((text) => `{"v":${text}}\n`),
    fc.string({ unit: "binary", maxLength: 20 }).map((text) => `${text}\n`),
  );
  const stream = fc
    .array(piece, { maxLength: 25 })
    .map((pieces) => Buffer.concat(pieces.map((item) => Buffer.from(item))));

  test("does not depend on how the input was cut into chunks", () => {
    fc.assert(
      fc.property(
        stream,
        fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 5 }),
        fc.constantFrom(4, 16, 64, 1000),
        (input, cuts, maxLineBytes) => {
          const whole = newAnnotator({ maxLineBytes });
          const chopped = newAnnotator({ maxLineBytes });
          const expected = annotateBytes(input, { maxLineBytes }, whole);
          assert.deepEqual(annotateBytes(input, { maxLineBytes, cuts }, chopped), expected);
          const counts = ({ linesJson, linesText, partsSplit }: LineAnnotator) => [linesJson, linesText, partsSplit];
          assert.deepEqual(counts(chopped), counts(whole));
        },
      ),
      { numRuns: 2000 },
    );
  });

  test("can be rebuilt byte by byte from its records", () => {
    fc.assert(
      fc.property(stream, fc.constantFrom(4, 16, 64, 1000), (input, maxLineBytes) => {
        const records = annotateBytes(input, { maxLineBytes }).toString("latin1").split("\n").slice(0, -1);
        const rebuilt = Buffer.concat(records.map(restore));
        const expected =
          input.length === 0 || input.at(-1) === 0x0a ? input : Buffer.concat([input, Buffer.from("\n")]);
        assert.equal(rebuilt.toString("latin1"), expected.toString("latin1"));
      }),
      { numRuns: 2000 },
    );
  });

  /** The bytes of the worker that a record stands for. */
  function restore(latin1: string): Buffer {
    const record = Buffer.from(latin1, "latin1");
    assert.ok(isUtf8(record));
    const value = JSON.parse(record.toString());
    assert.equal(value.worker_id, "web-0");
    if (value.worker_info_msg === undefined) {
      const line = latin1.replace(/"worker_id":"web-0",?/u, "").replaceAll('"app_worker_id"', '"worker_id"');
      return Buffer.from(`${line}\n`, "latin1");
    }
    const raw = value.worker_bytes_base64;
    const text = raw === undefined ? Buffer.from(value.worker_info_msg) : Buffer.from(raw, "base64");
    return value.part !== undefined && value.last_part === undefined ? text : Buffer.concat([text, Buffer.from("\n")]);
  }
});

test("a new maximum line length applies from then on, also to a buffered unfinished line", () => {
  const annotator = newAnnotator({ maxLineBytes: 100 });
  const out = new OutputBuffer();
  annotator.push(Buffer.from("a".repeat(50)), EPOCH_MS, out);
  annotator.configure({ maxLineBytes: 20 });
  annotator.push(Buffer.from(`\n${"b".repeat(20)}\n`), EPOCH_MS, out);
  annotator.configure({ maxLineBytes: 100 });
  annotator.push(Buffer.from(`${"c".repeat(90)}\n`), EPOCH_MS, out);
  const texts = Buffer.from(out.bytes.subarray(0, out.length))
    .toString()
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { worker_info_msg: string }).worker_info_msg);
  assert.deepEqual(texts, ["a".repeat(20), "a".repeat(20), "a".repeat(10), "b".repeat(20), "c".repeat(90)]);
  assert.throws(() => annotator.configure({ maxLineBytes: 3 }), RangeError);
});
