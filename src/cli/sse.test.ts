import assert from "node:assert/strict";
import { test } from "node:test";
import { SseParser } from "./sse.ts";

const STREAM =
  'id: 1\ndata: {"a":1}\n\nevent: lost\r\ndata:two\r\ndata:  lines\r\n\r\n: comment\n\ndata\n\nid: 9\ndata: cut off';

const EVENTS = [
  { event: "message", data: '{"a":1}' },
  { event: "lost", data: "two\n lines" },
  { event: "message", data: "" },
];

test("events are the same regardless of how the stream is split into chunks", () => {
  for (let size = 1; size <= STREAM.length; size++) {
    const parser = new SseParser();
    const found = [];
    for (let at = 0; at < STREAM.length; at += size) found.push(...parser.push(STREAM.slice(at, at + size)));
    assert.deepEqual(found, EVENTS, `chunks of ${size}`);
  }
});

test("an event is complete only after its blank line", () => {
  const parser = new SseParser();
  assert.deepEqual(parser.push("data: x\n"), []);
  assert.deepEqual(parser.push("\n"), [{ event: "message", data: "x" }]);
});

test("CR LF split across two chunks is one line end", () => {
  const parser = new SseParser();
  assert.deepEqual(parser.push("data: x\r"), []);
  assert.deepEqual(parser.push("\n\r"), []);
  assert.deepEqual(parser.push("\n"), [{ event: "message", data: "x" }]);
});
