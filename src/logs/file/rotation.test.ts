import assert from "node:assert/strict";
import { test } from "node:test";
import { planAppend, planShift, rotatedFiles, uncompressedFiles } from "./rotation.ts";

const records = (...lengths: readonly number[]) => Buffer.from(lengths.map((n) => `${"x".repeat(n - 1)}\n`).join(""));

test("records are appended whole, as many as fit into the file", () => {
  const text = records(10, 10, 10);
  const plan = (size: number, max: number, from = 0, to = text.length) => {
    const { rotates, bytes } = planAppend(size, max, text, from, to);
    return rotates ? "rotate" : bytes;
  };
  assert.equal(plan(0, 100), 30);
  assert.equal(plan(70, 100), 30);
  assert.equal(plan(71, 100), 20);
  assert.equal(plan(89, 100), 10);
  assert.equal(plan(90, 100), 10);
  assert.equal(plan(91, 100), "rotate");
  assert.equal(plan(100, 100), "rotate");
  assert.equal(plan(150, 100), "rotate");
  assert.equal(plan(71, 100, 10), 20);
  assert.equal(plan(85, 100, 10), 10);
  assert.equal(plan(95, 100, 20, 30), "rotate");
  assert.equal(plan(0, Number.POSITIVE_INFINITY), 30);
});

test("a record that is longer than the maximum gets a file of its own", () => {
  const text = records(50, 10, 10);
  assert.deepEqual(planAppend(1, 20, text, 0, 70), { rotates: true, bytes: 0 });
  assert.deepEqual(planAppend(0, 20, text, 0, 70), { rotates: false, bytes: 50 });
  assert.deepEqual(planAppend(50, 20, text, 50, 70), { rotates: true, bytes: 0 });
  assert.deepEqual(planAppend(0, 20, text, 50, 70), { rotates: false, bytes: 20 });
});

test("any sequence of appends writes every record once and in order, and exceeds the maximum only with a single record", () => {
  let seed = 1;
  const random = (limit: number) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % limit;
  };
  for (let round = 0; round < 2000; round++) {
    const maxBytes = 5 + random(60);
    const lines = Array.from({ length: 1 + random(20) }, (_, index) => `${index}:${"x".repeat(random(40))}\n`);
    const text = Buffer.from(lines.join(""));
    const files: string[] = [""];
    for (let at = 0; at < text.length; ) {
      const size = Buffer.byteLength(files.at(-1) ?? "");
      const { rotates, bytes } = planAppend(size, maxBytes, text, at, text.length);
      if (rotates) {
        files.push("");
        continue;
      }
      files.push((files.pop() ?? "") + text.toString("utf8", at, at + bytes));
      at += bytes;
    }
    assert.equal(files.join(""), lines.join(""));
    for (const file of files) {
      assert.ok(file.endsWith("\n"));
      assert.ok(file.length <= maxBytes || file.indexOf("\n") === file.length - 1, `${file.length} > ${maxBytes}`);
    }
  }
});

test("only numbered files of the same name are rotated files", () => {
  const names = [
    "web.log",
    "web.log.2.gz",
    "web.log.1",
    "web.log.20261201",
    "web.log.01",
    "web.log.1.bak",
    "xweb.log.1",
  ];
  assert.deepEqual(
    rotatedFiles(names, "web.log").map(({ name }) => name),
    ["web.log.1", "web.log.2.gz"],
  );
  assert.deepEqual(uncompressedFiles(names, "web.log"), ["web.log.1"]);
});

const steps = (names: readonly string[], keep: number) => {
  const { removals, renames } = planShift(names, "a", keep);
  return [...removals.map((name) => `-${name}`), ...renames.map(({ from, to }) => `${from}>${to}`)].join(" ");
};

test("a rotation moves each file by one number and removes the oldest", () => {
  assert.equal(steps(["a"], 3), "a>a.1");
  assert.equal(steps(["a", "a.1"], 3), "a.1>a.2 a>a.1");
  assert.equal(steps(["a", "a.1", "a.2.gz", "a.3.gz"], 3), "-a.3.gz a.2.gz>a.3.gz a.1>a.2 a>a.1");
  assert.equal(steps(["a", "a.1"], 1), "-a.1 a>a.1");
  assert.equal(steps(["a", "a.1"], 0), "-a.1 -a");
});

test("a rotation fills the gap that a crash left, and removes no file for it", () => {
  assert.equal(steps(["a", "a.2", "a.3"], 3), "a>a.1");
  assert.equal(steps(["a", "a.1", "a.3"], 3), "a.1>a.2 a>a.1");
});

test("files beyond a smaller number to keep are removed", () => {
  assert.equal(steps(["a", "a.1", "a.2.gz", "a.7"], 2), "-a.7 -a.2.gz a.1>a.2 a>a.1");
});

test("of a file in both forms the complete one stays", () => {
  assert.equal(steps(["a", "a.1", "a.1.gz"], 3), "-a.1.gz a.1>a.2 a>a.1");
});

test("no rename has a target that exists at that moment", () => {
  for (let mask = 0; mask < 1 << 8; mask++) {
    const names = ["a.1", "a.1.gz", "a.2", "a.2.gz", "a.3", "a.3.gz", "a.4", "a.4.gz"];
    for (const keep of [0, 1, 2, 3, 4, 5]) {
      const present = new Set(["a", ...names.filter((_, index) => mask & (1 << index))]);
      const { removals, renames } = planShift([...present], "a", keep);
      for (const name of removals) assert.ok(present.delete(name), name);
      for (const { from, to } of renames) {
        assert.ok(present.delete(from), from);
        assert.ok(!present.has(to), to);
        present.add(to);
      }
      assert.ok(!present.has("a"));
      assert.ok(present.size <= keep, [...present].join());
    }
  }
});
