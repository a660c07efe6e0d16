import assert from "node:assert/strict";
import { test } from "node:test";
import { formatJsonRecord, formatReadableRecord } from "./log.ts";

const NOON = Date.UTC(2026, 0, 2, 12, 34, 56, 789);

test("a JSON record is one line with the level, the time in seconds, the message and the fields", () => {
  const line = formatJsonRecord("warn", 1_500, 'said "hi"\n', { pid: 7, pool: "web", ok: true, next: null });
  assert.equal(line, '{"level":"warn","ts":1.5,"msg":"said \\"hi\\"\\n","pid":7,"pool":"web","ok":true,"next":null}\n');
});

test("a JSON record omits undefined fields", () => {
  assert.equal(formatJsonRecord("info", 0, "m", { pid: undefined }), '{"level":"info","ts":0,"msg":"m"}\n');
  assert.equal(formatJsonRecord("info", 0, "m"), '{"level":"info","ts":0,"msg":"m"}\n');
});

test("a readable record has the time of day, a padded level, the message and the fields", () => {
  assert.equal(formatReadableRecord("info", NOON, "worker runs"), "12:34:56.789 INFO  worker runs\n");
  assert.equal(
    formatReadableRecord("error", NOON, "gone", { pid: 7, pool: undefined, why: null, id: "web-0" }),
    "12:34:56.789 ERROR gone pid=7 why=null id=web-0\n",
  );
});

test("a readable record quotes values that contain spaces, quotes, equals signs or line breaks", () => {
  const line = formatReadableRecord("info", NOON, "m", { a: "two words", b: 'a"b', c: "k=v", d: "line\nbreak" });
  assert.equal(line, '12:34:56.789 INFO  m a="two words" b="a\\"b" c="k=v" d="line\\nbreak"\n');
});
