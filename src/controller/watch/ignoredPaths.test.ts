import assert from "node:assert/strict";
import { test } from "node:test";
import { isIgnoredDirectory, isIgnoredFile } from "./ignoredPaths.ts";

const WATCHED = [
  "app.js",
  "app.py",
  "views.erb",
  "package.json",
  "requirements.txt",
  "monoceros.yaml",
  ".env",
  ".env.local",
  "catalogue.json",
  "dialog.js",
  "x.log.js",
  "49130",
];

const IGNORED = [
  ".app.js.swp",
  "app.js.swp",
  ".app.js.swx",
  "4913",
  "app.js~",
  ".#app.js",
  "#app.js#",
  "app.py.bak",
  "app.js___jb_tmp___",
  "app.js.tmp",
  ".DS_Store",
  ".coverage",
  ".envrc.swp",
  "module.pyc",
  "tsconfig.tsbuildinfo",
  "server.log",
  "server.log.1",
  "server.pid",
  "web.sock",
  "app.db",
  "app.sqlite3-journal",
  "app.sqlite3-wal",
];

test("sources and settings are watched", () => {
  assert.deepEqual(WATCHED.filter(isIgnoredFile), []);
});

test("files of editors, and files that programs write, are ignored", () => {
  assert.deepEqual(
    IGNORED.filter((name) => !isIgnoredFile(name)),
    [],
  );
});

test("directories of version control, package managers, caches and logs are ignored", () => {
  const ignored =
    ".git .hg .venv venv node_modules __pycache__ .tox .mypy_cache .pytest_cache .next logs tmp app.egg-info";
  assert.deepEqual(
    ignored.split(" ").filter((name) => !isIgnoredDirectory(name)),
    [],
  );
  assert.deepEqual("src lib dist build app templates vendor".split(" ").filter(isIgnoredDirectory), []);
});
