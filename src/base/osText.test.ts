import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { decodeOsText, encodeOsText } from "./osText.ts";

test("decodeOsText decodes UTF-8 and preserves each invalid byte", () => {
  assert.equal(decodeOsText(Buffer.from("\ufeffżółć 🎉\0")), "\ufeffżółć 🎉\0");
  assert.equal(decodeOsText(Buffer.from([0x61, 0xe9, 0xc3, 0xa9])), "a\udce9é");
  // An overlong encoding, a surrogate, a code point beyond Unicode, a truncated sequence.
  for (const bytes of [
    [0xc0, 0x80],
    [0xed, 0xa0, 0x80],
    [0xf4, 0x90, 0x80, 0x80],
    [0xf0, 0x9f, 0x8e],
  ])
    assert.equal(
      decodeOsText(Uint8Array.from(bytes)),
      bytes.map((byte) => String.fromCharCode(0xdc00 + byte)).join(""),
    );
});

test("any bytes survive a round trip, also if decoded texts are concatenated", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc
      .array(fc.constantFrom(0x61, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x8e, 0x89, 0xed, 0xa0))
      .map((list) => Uint8Array.from(list)),
  );
  fc.assert(
    fc.property(bytes, bytes, (one, other) => {
      const text = decodeOsText(one);
      assert.deepEqual(Buffer.from(encodeOsText(text)), Buffer.from(one));
      assert.equal(text.isWellFormed(), isUtf8(one));
      assert.deepEqual(Buffer.from(encodeOsText(text + decodeOsText(other))), Buffer.concat([one, other]));
    }),
    { numRuns: 3000 },
  );
});
