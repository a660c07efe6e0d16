import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, realpathSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerError } from "../../base/errors.ts";
import { RuntimeDirectory, requirePassable } from "./runtimeDirectory.ts";

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

test("every user may traverse the created directories, regardless of the umask", () => {
  const parent = realpathSync(mkdtempSync(join(tmpdir(), "monoceros-runtime-")));
  const umask = process.umask(0o077);
  try {
    using runtime = RuntimeDirectory.create(join(parent, "a", "b"), SILENT);
    const inner = runtime.directory(["web", "envoy"]);
    for (const path of [join(parent, "a"), join(parent, "a", "b"), runtime.path, join(runtime.path, "web"), inner])
      assert.equal(statSync(path).mode & 0o777, 0o711, path);
    chmodSync(inner, 0o700);
    assert.equal(
      statSync(runtime.directory(["web", "envoy"])).mode & 0o777,
      0o700,
      "an existing directory keeps its mode",
    );
  } finally {
    process.umask(umask);
    rmSync(parent, { recursive: true });
  }
});

test("if no location is writable the error names both locations and what to mount", () => {
  const parent = mkdtempSync(join(tmpdir(), "monoceros-runtime-"));
  const before = process.env["TMPDIR"];
  const file = join(parent, "file");
  writeFileSync(file, "");
  process.env["TMPDIR"] = join(parent, "none");
  try {
    assert.throws(
      () => RuntimeDirectory.create(join(file, "run"), SILENT),
      (error: unknown) =>
        error instanceof ControllerError &&
        error.code === "RUNTIME_DIR_UNUSABLE" &&
        error.exitCode === 78 &&
        error.message.includes(`neither "${file}/run" (ENOTDIR) nor "${parent}/none" (ENOENT)`) &&
        error.hint?.includes(`at ${parent}/none`) === true,
    );
  } finally {
    if (before === undefined) delete process.env["TMPDIR"];
    else process.env["TMPDIR"] = before;
    rmSync(parent, { recursive: true });
  }
});

test("the error for a directory that the worker's user cannot enter names it and suggests a chmod", () => {
  const closed = realpathSync(mkdtempSync(join(tmpdir(), "monoceros-runtime-")));
  try {
    assert.throws(
      () => requirePassable(closed, { uid: 54_321, gid: 54_321, groups: [] }, 'pool "web"'),
      (error: unknown) =>
        error instanceof ControllerError &&
        error.message === `Cannot start pool "web" as uid 54321: this user cannot enter directory "${closed}"` &&
        error.hint?.startsWith(`chmod o+x ${closed}`) === true,
    );
  } finally {
    rmSync(closed, { recursive: true });
  }
});
