import assert from "node:assert/strict";
import { test } from "node:test";
import { findFlags, findOptions } from "./options.ts";

function values(command: string, names: readonly string[]) {
  return findOptions(command.split(" "), names, 1).map(({ index, length, name, value }) => [
    index,
    length,
    name,
    value,
  ]);
}

test("options are found in each spelling, with their place", () => {
  assert.deepEqual(values("g -w 4 app", ["--workers", "-w"]), [[1, 2, "-w", "4"]]);
  assert.deepEqual(values("g app -w4", ["--workers", "-w"]), [[2, 1, "-w", "4"]]);
  assert.deepEqual(values("g --workers=4 --workers 5", ["--workers", "-w"]), [
    [1, 1, "--workers", "4"],
    [2, 2, "--workers", "5"],
  ]);
  assert.deepEqual(values("g app -w", ["-w"]), [[2, 1, "-w", undefined]]);
});

test("other words are not options", () => {
  assert.deepEqual(values("-w4 --workers-lifetime 4 --w4 app", ["--workers", "-w"]), []);
  assert.deepEqual(values("g -- -w 4", ["-w"]), []);
});

test("flags without a value are found before the first --", () => {
  const words = "-D g --reload -D app -- -D".split(" ");
  assert.deepEqual(
    findFlags(words, ["-D", "--reload"], 1).map(({ index, name }) => [index, name]),
    [
      [2, "--reload"],
      [3, "-D"],
    ],
  );
});
