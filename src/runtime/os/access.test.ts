import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { findClosed } from "./access.ts";

test("the outermost directory that a user may not enter is found, also through symlinks", () => {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "monoceros-access-")));
  const { uid, gid } = statSync(directory);
  const stranger = { uid: 54_321, gid: 54_321, groups: [54_321] };
  const inner = join(directory, "inner");
  const file = join(inner, "program");
  try {
    mkdirSync(inner);
    writeFileSync(file, "");
    symlinkSync(file, join(directory, "link"));
    const modes = (outer: number, middle: number, own: number) => {
      chmodSync(directory, outer);
      chmodSync(inner, middle);
      chmodSync(file, own);
    };
    modes(0o711, 0o711, 0o711);
    assert.equal(findClosed(file, stranger), undefined);
    modes(0o711, 0o711, 0o710);
    assert.equal(findClosed(file, stranger), file);
    modes(0o711, 0o770, 0o711);
    assert.equal(findClosed(file, stranger), inner);
    assert.equal(findClosed(join(directory, "link"), stranger), inner);
    assert.equal(findClosed(file, { ...stranger, groups: [gid] }), undefined);
    modes(0o700, 0o700, 0o711);
    assert.equal(findClosed(file, stranger), directory);
    assert.equal(findClosed(file, { uid: 0, gid: 0, groups: [] }), undefined);
    if (uid !== 0) assert.equal(findClosed(file, { uid, gid, groups: [] }), undefined);
    assert.equal(findClosed(join(inner, "none"), stranger), undefined);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
