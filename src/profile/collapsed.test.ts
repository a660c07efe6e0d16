import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCollapsed } from "./collapsed.ts";

test("collapsed stacks are read with function, file and line", () => {
  const text = "<module> (app.py:3);spin (/srv/my app/x.py:19) 42\n<module> (app.py:3);native (libc.so) 1\nonly 7\n";
  assert.deepEqual(parseCollapsed(text), [
    {
      frames: [
        { name: "(module)", file: "app.py", line: 3 },
        { name: "spin", file: "/srv/my app/x.py", line: 19 },
      ],
      count: 42,
    },
    {
      frames: [
        { name: "(module)", file: "app.py", line: 3 },
        { name: "native", file: "libc.so", line: 0 },
      ],
      count: 1,
    },
    { frames: [{ name: "only", file: "", line: 0 }], count: 7 },
  ]);
});

test("empty text and a line that was cut off have no stacks", () => {
  assert.deepEqual(parseCollapsed(""), []);
  assert.deepEqual(parseCollapsed("a (b.py:1) 3\na (b.py:1);c (d.p")[0]?.count, 3);
  assert.equal(parseCollapsed("a (b.py:1) 3\na (b.py:1);c (d.p").length, 1);
});
