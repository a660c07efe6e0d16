import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { OutputBuffer } from "./outputBuffer.ts";

describe("output buffer", () => {
  test("copies runs of any length from anywhere to anywhere", () => {
    const from = Buffer.allocUnsafeSlow(128).map((_, index) => index);
    const view = new DataView(from.buffer, from.byteOffset, from.length);
    for (let start = 0; start < 5; start++) {
      for (let length = 0; length < 70; length++) {
        const out = new OutputBuffer();
        out.text("x".repeat(start));
        out.reserve(length);
        out.copy(view, start, start + length);
        out.text("end");
        const expected = Buffer.concat([
          Buffer.from("x".repeat(start)),
          from.subarray(start, start + length),
          Buffer.from("end"),
        ]);
        assert.deepEqual(out.bytes.subarray(0, out.length), expected);
      }
    }
  });

  test("keeps its content when it grows", () => {
    const out = new OutputBuffer();
    let expected = "";
    for (let index = 0; index < 3000; index++) {
      out.text(`żółć ${index},`);
      expected += `żółć ${index},`;
    }
    assert.equal(out.bytes.toString("utf8", 0, out.length), expected);
  });

  test("owns no memory while empty, and frees excess memory", () => {
    const out = new OutputBuffer();
    assert.equal(out.bytes.length, 0);
    out.reserve(100_000);
    out.clear(1_000_000);
    assert.ok(out.bytes.length >= 100_000);
    out.clear(1000);
    assert.equal(out.bytes.length, 0);
  });
});
