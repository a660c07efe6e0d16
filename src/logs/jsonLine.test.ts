import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { describe, test } from "node:test";
import fc from "fast-check";
import { findNewline, findStringStop, JsonLineScanner, MAX_DEPTH, SLACK_BYTES } from "./jsonLine.ts";

const scanner = new JsonLineScanner();

function viewOf(line: string | Uint8Array): DataView {
  const bytes = typeof line === "string" ? Buffer.from(line) : line;
  // What lies behind the newline must not matter: quotes and digits would if it did.
  const padded = Buffer.concat([bytes, Buffer.from("\n"), Buffer.from(`"1}]`.slice(0, SLACK_BYTES))]);
  return new DataView(padded.buffer, padded.byteOffset, padded.length);
}

function scan(line: string | Uint8Array): boolean {
  const accepted = scanner.scan(viewOf(line), 0);
  if (accepted) assert.equal(scanner.end, Buffer.from(line).length);
  return accepted && (!scanner.hasHighBytes || isUtf8(Buffer.from(line)));
}

/** What the scanner must say, by way of JSON.parse. */
function isObjectLine(line: Uint8Array): boolean {
  if (!isUtf8(line) || line.includes(0x0a)) return false;
  try {
    // Not Buffer.toString, which drops nothing today but need not keep a byte order mark.
    const value: unknown = JSON.parse(new TextDecoder("utf-8", { ignoreBOM: true }).decode(line));
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

describe("JSON line scanner", () => {
  const accepted = [
    "{}",
    " {\t} \r",
    '{"a":1}',
    '{"a":-0.5e+10,"b":[1,2,[]],"c":{"d":{}},"e":null,"f":true,"g":false}',
    '{"a":"\\u00e9\\n\\"\\\\\\/\\b\\f\\r\\t"}',
    '{"a":"zażółć 日本語 🎉"}',
    '{ "a" : 1 , "b" : [ ] }\r',
    '{"a":"\u007f"}',
    '{"a":"\\ud800"}',
    '{"":""}',
    `{"a":${"[".repeat(MAX_DEPTH - 1)}${"]".repeat(MAX_DEPTH - 1)}}`,
  ];
  for (const line of accepted) {
    test(`accepts ${JSON.stringify(line.slice(0, 60))}`, () => {
      assert.equal(scan(line), true);
      assert.equal(isObjectLine(Buffer.from(line)), true);
    });
  }

  const refused = [
    "",
    " ",
    "{",
    "}",
    "{ garbage }",
    '{"a"}',
    '{"a":}',
    '{"a":1,}',
    '{,"a":1}',
    '{"a":1}}',
    '{"a":1} x',
    '{"a":1}{"b":2}',
    '{"a":01}',
    '{"a":1.}',
    '{"a":.5}',
    '{"a":+1}',
    '{"a":-}',
    '{"a":1e}',
    '{"a":1e+}',
    '{"a":NaN}',
    '{"a":tru}',
    '{"a":nul',
    '{"a":fals',
    '{"a":f',
    '{"a":[1,]}',
    '{"a":[1}',
    '{"a":{]}',
    '{"a":"',
    '{"a":"\\',
    '{"a":"\\x"}',
    '{"a":"\\u12g4"}',
    '{"a":"\\u12',
    '{"a":"\t"}',
    '{"a":"\u0000"}',
    "{'a':1}",
    "{a:1}",
    "[]",
    '"text"',
    "1",
    "null",
    '\ufeff{"a":1}',
    '{"a":1}\u00a0',
    '{"a" 1}',
    '{"a":1 "b":2}',
    '{"a":1\f}',
  ];
  for (const line of refused) {
    test(`refuses ${JSON.stringify(line)}`, () => {
      assert.equal(scan(line), false);
      assert.equal(isObjectLine(Buffer.from(line)), false);
    });
  }

  test("refuses an object nested deeper than the limit", () => {
    assert.equal(scan(`{"a":${"[".repeat(MAX_DEPTH)}${"]".repeat(MAX_DEPTH)}}`), false);
    assert.equal(scan(`{"a":${"[".repeat(100_000)}`), false);
  });

  test("reports whether an object is empty, and the offset of its brace", () => {
    assert.ok(scan("  { } "));
    assert.deepEqual([scanner.isEmpty, scanner.open], [true, 2]);
    assert.ok(scan('{"a":{}}'));
    assert.deepEqual([scanner.isEmpty, scanner.open], [false, 0]);
  });

  test("reads one line of many", () => {
    const view = viewOf('{"a":1}\n{"b":22}\nno');
    assert.ok(scanner.scan(view, 0));
    assert.equal(scanner.end, 7);
    assert.ok(scanner.scan(view, 8));
    assert.equal(scanner.end, 16);
    assert.ok(!scanner.scan(view, 17));
  });

  test("finds top-level worker_id keys in any spelling, and no others", () => {
    const line =
      '{"worker_id":1,"worker\\u005fid":2,"xworker_id":3,"worker_idx":4,"worker_i\\u0064":5,"v":"worker_id",' +
      '"n":{"worker_id":6},"\\u0077\\u006F\\u0072\\u006b\\u0065\\u0072\\u005F\\u0069\\u0064":7,"worker\\nid":8,"worker_i":9}';
    assert.ok(scan(line));
    const found = scanner.keyStarts.slice(0, scanner.workerIdCount).map((start, index) => {
      const text = line.slice(start, scanner.keyEnds[index]);
      return JSON.parse(`"${text}"`);
    });
    assert.deepEqual(found, ["worker_id", "worker_id", "worker_id", "worker_id"]);
  });

  test("agrees with JSON.parse on every mutation of every object", () => {
    const alphabet = Buffer.from('{}[]:,"\\/ \t\r0123456789.eE+-truefalsnub_\u007f\u0000\u001fx');
    let cases = 0;
    let acceptedCases = 0;
    const mutation = fc.record({
      kind: fc.constantFrom("replace", "insert", "delete", "swap", "cut"),
      at: fc.nat(0xffff),
      to: fc.oneof(fc.constantFrom(...alphabet), fc.nat(255)),
    });
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string({ unit: "binary", maxLength: 8 }),
          fc.jsonValue({ maxDepth: 2, stringUnit: "binary" }),
          { maxKeys: 5 },
        ),
        fc.constantFrom(undefined, 1, "\t"),
        fc.array(mutation, { minLength: 24, maxLength: 24 }),
        (value, indent, mutations) => {
          const valid = Buffer.from(JSON.stringify(value, undefined, indent).replaceAll("\n", "\r"));
          assert.equal(scan(valid), true);
          let twice: Buffer = valid;
          for (const [index, { kind, at, to }] of mutations.entries()) {
            // Every other case is one mutation away from a valid object, the rest are two.
            const base = index % 2 === 0 ? valid : twice;
            const place = at % (base.length + 1);
            const line = mutate(base, kind, place, to);
            twice = line;
            const expected = isObjectLine(line);
            assert.equal(
              line.includes(0x0a) ? expected : scan(line),
              expected,
              JSON.stringify(line.toString("latin1")),
            );
            cases++;
            if (expected) acceptedCases++;
          }
        },
      ),
      { numRuns: 900 },
    );
    assert.ok(cases >= 20_000, `${cases} cases`);
    assert.ok(acceptedCases > 1000, `${acceptedCases} were objects still`);
  });
});

function mutate(base: Buffer, kind: string, place: number, to: number): Buffer {
  switch (kind) {
    case "insert":
      return Buffer.concat([base.subarray(0, place), Buffer.from([to]), base.subarray(place)]);
    case "delete":
      return Buffer.concat([base.subarray(0, place), base.subarray(place + 1)]);
    case "cut":
      return base.subarray(0, place);
    case "swap": {
      const line = Buffer.from(base);
      const other = to % Math.max(1, line.length);
      if (place < line.length) [line[place], line[other]] = [base[other] ?? 0, base[place] ?? 0];
      return line;
    }
    default: {
      const line = Buffer.from(base);
      if (place < line.length) line[place] = to;
      return line;
    }
  }
}

describe("string stop", () => {
  test("is the first byte that is not plain, at every alignment", () => {
    for (const stop of ['"', "\\", "\n", "\u0000", "\u001f", "é", "\u0080"]) {
      for (let before = 0; before < 12; before++) {
        const view = viewOf(`${" !#[]~\u007f".repeat(2).slice(0, before)}${stop}"`);
        assert.equal(findStringStop(view, 0, view.byteLength), before);
        assert.equal(findStringStop(view, 0, Math.max(0, before - 1)), Math.max(0, before - 1));
      }
    }
  });
});

describe("newline search", () => {
  test("finds the first newline at every alignment, and none after the end", () => {
    for (let before = 0; before < 12; before++) {
      // Bytes that differ from a newline in one bit or only in the top one.
      const view = viewOf(`${"\u000b\u0008\u000eé\u0009".repeat(3).slice(0, before)}\n\n`);
      const newline = Buffer.from(view.buffer, view.byteOffset, view.byteLength).indexOf("\n");
      assert.equal(findNewline(view, 0, view.byteLength), newline);
      assert.equal(findNewline(view, 0, newline), newline);
      assert.equal(findNewline(view, newline + 1, view.byteLength), newline + 1);
    }
  });
});
