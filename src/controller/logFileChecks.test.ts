import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { PoolConfig } from "../config/config.ts";
import { logFileConflicts, logFileProblem } from "./logFileChecks.ts";

const isRoot = process.getuid?.() === 0;
const directory = mkdtempSync(join(tmpdir(), "monoceros-log-checks-"));
after(() => rmSync(directory, { recursive: true }));
const at = (name: string) => join(directory, name);
const problemOf = (path: string) => logFileProblem(path, [])?.message;

test("a file that is missing or a regular file may be used", () => {
  writeFileSync(at("old.log"), "", { mode: 0o640 });
  assert.equal(problemOf(at("old.log")), undefined);
  assert.equal(problemOf(at("new.log")), undefined);
});

test("each unusable path is explained", () => {
  mkdirSync(at("directory"));
  symlinkSync(at("old.log"), at("link.log"));
  execFileSync("mkfifo", [at("fifo.log")]);
  writeFileSync(at("file"), "");
  assert.equal(problemOf(at("missing/a.log")), `there is no directory "${at("missing")}"`);
  assert.equal(problemOf(at("file/a.log")), `"${at("file")}" is not a directory`);
  assert.equal(problemOf(at("directory")), "it is a directory, expected a file");
  assert.equal(problemOf(at("link.log")), "it is a symlink, expected a file");
  assert.equal(problemOf(at("fifo.log")), "it is a FIFO, expected a file");
  assert.equal(problemOf("/dev/full"), "it is a device, expected a file");
});

test("a path that another user controls is not used", { skip: !isRoot }, () => {
  mkdirSync(at("others"));
  chownSync(at("others"), 61_235, 61_235);
  assert.match(problemOf(join(at("others"), "a.log")) ?? "", /user 61235 owns the directory/u);
  mkdirSync(at("sticky"));
  chmodSync(at("sticky"), 0o1777);
  writeFileSync(join(at("sticky"), "a.log"), "");
  assert.equal(problemOf(join(at("sticky"), "a.log")), undefined);
  chownSync(join(at("sticky"), "a.log"), 61_235, 61_235);
  assert.match(problemOf(join(at("sticky"), "a.log")) ?? "", /user 61235 owns the file/u);
});

test("two pools may not write the same files, also not by rotation or by another name of the directory", () => {
  mkdirSync(at("real"));
  symlinkSync(at("real"), at("alias"));
  const conflicts = (...paths: readonly string[]) =>
    logFileConflicts(
      paths.map((path, index) => ({ name: `p${index}`, logs: { file: { path } } as PoolConfig["logs"] })),
    ).map(({ pool }) => pool);
  assert.deepEqual(conflicts("/a.log", "/b.log", "/a.log.bak", "/a.log.x", "/a.log.2026"), []);
  assert.deepEqual(conflicts("/a.log", "/b.log", "/a.log"), [2]);
  assert.deepEqual(conflicts("/a.log", "/a.log.1"), [1]);
  assert.deepEqual(conflicts("/a.log.12.gz", "/a.log"), [1]);
  assert.deepEqual(conflicts("/a.log", "/a.log.gz.tmp"), [1]);
  assert.deepEqual(conflicts(at("real/a.log"), at("alias/a.log")), [1]);
});
