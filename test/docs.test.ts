import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { stalePages } from "../scripts/docs.ts";
import { ERROR_CODES } from "../src/base/errors.ts";
import { changeClasses } from "../src/config/diff.ts";
import { ON_RELOAD } from "../src/config/docs.ts";

test("generated pages are up to date (run scripts/docs.ts)", () => {
  assert.deepEqual(stalePages(), []);
});

test("every error code is used by the code and provoked by a test", () => {
  const files = readdirSync(".", { recursive: true, encoding: "utf8" }).filter(
    (file) => /^(?:src|test|cmd)\/.*\.ts$/u.test(file) && !file.endsWith("base/errors.ts"),
  );
  const code = files
    .filter((file) => !file.endsWith(".test.ts"))
    .map((file) => readFileSync(file, "utf8"))
    .join("\n");
  const tests = files
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => readFileSync(file, "utf8"))
    .join("\n");
  const names = Object.keys(ERROR_CODES);
  assert.deepEqual(
    names.filter((name) => !code.includes(`"${name}"`)),
    [],
    "codes that nothing uses",
  );
  assert.deepEqual(
    names.filter((name) => !tests.includes(name)),
    [],
    "codes without a test",
  );
});

test("links between pages are valid", () => {
  const pages = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    ...readdirSync("docs", { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".md"))
      .map((file) => join("docs", file)),
  ];
  const dead = pages.flatMap((page) =>
    [...readFileSync(page, "utf8").matchAll(/\]\(([^)#\s]+)[^)]*\)/gu)]
      .map((match) => match[1] ?? "")
      .filter((target) => !/^[a-z]+:/u.test(target) && !existsSync(join(dirname(page), target)))
      .map((target) => `${page} → ${target}`),
  );
  assert.deepEqual(dead, []);
});

test("test files named in SECURITY.md exist", () => {
  const named = [...readFileSync("SECURITY.md", "utf8").matchAll(/`([\w/.]+\.test\.ts)`/gu)].map(
    ([, path = ""]) => path,
  );
  assert.ok(named.length > 0);
  assert.deepEqual(
    named.filter((path) => !existsSync(path)),
    [],
  );
});

test("the examples of the reload table in docs/operation.md have the class of their row", () => {
  const page = readFileSync("docs/operation.md", "utf8");
  const classes = new Map(
    [...changeClasses()].map(([path, found]) => [path.replace("supervisor.workers[].", ""), found]),
  );
  for (const [change, meaning] of Object.entries(ON_RELOAD)) {
    const [example = ""] = page.match(new RegExp(`^\\| \\*\\*${meaning}\\*\\*[^|]*`, "mu")) ?? [];
    const keys = [...example.matchAll(/`([^`]+)`/gu)].map(([, key = ""]) => key);
    assert.ok(keys.length > 0, meaning);
    for (const key of keys) {
      const inside = [...classes].filter(
        ([path]) => path === key || (path.startsWith(key) && /[.[]/u.test(path[key.length] ?? "")),
      );
      assert.ok(inside.length > 0, `the schema has no ${key}`);
      for (const [path, found] of inside)
        assert.ok(
          found.some((each) => each === change),
          `${path} ${meaning}`,
        );
    }
  }
});
