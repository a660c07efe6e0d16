import assert from "node:assert/strict";
import { test } from "node:test";
import { Outlet } from "./outlet.ts";
import { FULL_BYTES, LogSink } from "./sink.ts";

/** A sink that writes to memory as soon as `release` allows the next write. */
function memory() {
  const writes: string[] = [];
  const held: (() => void)[] = [];
  const sink = new LogSink({
    fd: {
      write: (records, offset, length, done) =>
        held.push(() => {
          writes.push(records.toString("utf8", offset, offset + length));
          done(null, length);
        }),
      abandon: assert.fail,
    },
  });
  return { sink, text: () => writes.join(""), release: () => held.shift()?.() };
}

function append(outlet: Outlet, text: string): void {
  outlet.buffer.text(text);
  outlet.commit();
}

test("both destinations receive each record once, also between other records of the first", () => {
  const [first, second] = [memory(), memory()];
  const outlet = new Outlet(first.sink);
  append(outlet, "a\n");
  outlet.connect(first.sink, second.sink);
  first.sink.write("other\n");
  append(outlet, "b\n");
  append(outlet, "c\n");
  outlet.connect(second.sink, undefined);
  append(outlet, "d\n");
  for (const { release } of [first, first, second, second]) release();
  assert.equal(first.text(), "a\nother\nb\nc\n");
  assert.equal(second.text(), "b\nc\nd\n");
});

test("a source waits while either destination is full", () => {
  const [first, second] = [memory(), memory()];
  const outlet = new Outlet(first.sink);
  outlet.connect(first.sink, second.sink);
  const large = `${"x".repeat(FULL_BYTES)}\n`;
  append(outlet, "a\n");
  append(outlet, large);
  assert.equal(outlet.isFull, true);
  let served = 0;
  outlet.whenDrained(() => served++);
  first.release();
  assert.deepEqual([served, outlet.isFull, first.sink.isFull], [1, true, false]);
  outlet.whenDrained(() => served++);
  assert.equal(served, 1);
  second.release();
  assert.deepEqual([served, outlet.isFull], [2, false]);
});

test("a destination that is left releases the sources that wait for it", () => {
  const { sink } = memory();
  sink.write("a\n");
  sink.write(`${"x".repeat(FULL_BYTES)}\n`);
  let served = 0;
  sink.whenDrained(() => served++);
  sink.whenDrained(() => served++);
  sink.releaseWaiting();
  assert.deepEqual([served, sink.isFull], [2, true]);
});
