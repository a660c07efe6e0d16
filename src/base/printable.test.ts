import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerError } from "./errors.ts";
import { formatJsonRecord, formatReadableRecord } from "./log.ts";
import { printable, printableLines } from "./printable.ts";

/** C0, DEL, C1, bidirectional overrides, isolates and marks, a byte order mark, a tag, lone surrogates. */
const HOSTILE = [..."\u0007\u001b\u007f\u009b\u009d\u061c\u200e\u202e\u2066\ufeff", "\u{e0041}", "\udc9b", "\ud800"];

test("unprintable characters are replaced by visible escapes", () => {
  for (const character of HOSTILE) {
    for (const make of [printable, printableLines]) {
      const made = make(`a${character}b`);
      assert.match(made, /^a(?:\\u[0-9a-f]{4}){1,2}b$/u, JSON.stringify(character));
      assert.ok(made.isWellFormed());
    }
  }
  assert.equal(printable("a\u009b31mb"), "a\\u009b31mb");
});

test("printable text is unchanged", () => {
  for (const text of ["web-0", "größe 日本語", "👩‍💻 and e\u0301", "\\u009b", "नि‍"]) {
    assert.equal(printable(text), text);
    assert.equal(printableLines(text), text);
  }
});

test("printable() turns line breaks into spaces; printableLines() keeps newlines", () => {
  assert.equal(printable("python\0app.py\r\n\t--x\u2028y"), "python app.py --x y");
  assert.equal(printableLines("a\tb\nc\r\n"), "a\tb\nc\\u000d\n");
});

test("a JSON document parses to the same value after printableLines()", () => {
  const value = { name: HOSTILE.join(""), lines: ["a\nb"] };
  const text = printableLines(JSON.stringify(value, undefined, 2));
  assert.doesNotMatch(text, /[\u007f-\u009f\u202e]/u);
  assert.deepEqual(JSON.parse(text), value);
});

test("error messages and log records contain no unprintable characters", () => {
  const error = new ControllerError("EXEC_NOT_FOUND", "no \u001b]0;x\u0007", { hint: "\u009b2J" });
  assert.deepEqual([error.message, error.hint], ["no \\u001b]0;x\\u0007", "\\u009b2J"]);
  const json = formatJsonRecord("warn", 0, "held by \u009b2J", { command: "\u202egpj.exe" });
  assert.doesNotMatch(json, /[\u007f-\u009f\u202e]/u);
  assert.equal(JSON.parse(json).msg, "held by \u009b2J");
  assert.equal(
    formatReadableRecord("warn", 0, "a\nb \u009b", { command: "\u202ex" }),
    "00:00:00.000 WARN  a b \\u009b command=\\u202ex\n",
  );
});
