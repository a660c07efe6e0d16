import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { stalePages } from "../scripts/docs.ts";
import { ERROR_CODES } from "../src/base/errors.ts";
import { changeClasses } from "../src/config/diff.ts";

test("generated pages are what the code prints (scripts/docs.ts writes them)", () => {
  assert.deepEqual(stalePages(), []);
});

test("every error code is used and provoked by a test", () => {
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

test("links between the pages lead somewhere", () => {
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

test("the tests that SECURITY.md names exist", () => {
  const named = [...readFileSync("SECURITY.md", "utf8").matchAll(/`([\w/.]+\.test\.ts)`/gu)].map(
    ([, path = ""]) => path,
  );
  assert.ok(named.length > 0);
  assert.deepEqual(
    named.filter((path) => !existsSync(path)),
    [],
  );
});

test("the table of docs/operation.md says of each key what a reload of it takes", () => {
  const classes = {
    "Applies at once": "policy",
    "Workers are replaced": "launch",
    "Envoy is reconfigured": "proxy",
    Refused: "refused",
  };
  const page = readFileSync("docs/operation.md", "utf8");
  const rows = Object.entries(classes).map(([start, name]) => {
    const row = page.split("\n").find((line) => line.includes(`| **${start}**`));
    assert.ok(row !== undefined, start);
    const keys = [...(row.split("|")[1] ?? "").matchAll(/`([^`]+)`/gu)].map(([, key = ""]) => key);
    return { name, keys };
  });
  // A key is in the rows that name it, or else the nearest block around it.
  const lengthIn = (keys: readonly string[], path: string) =>
    Math.max(
      0,
      ...keys
        .filter((key) => path === key || (/^[.[]/u.test(path.slice(key.length)) && path.startsWith(key)))
        .map(({ length }) => length),
    );
  const wrong: string[] = [];
  const used = new Set<string>();
  for (const [path, expected] of changeClasses()) {
    const key = path.replace("supervisor.workers[].", "");
    const lengths = rows.map(({ keys }) => lengthIn(keys, key));
    const longest = Math.max(...lengths);
    const found = rows.filter((_, index) => longest > 0 && lengths[index] === longest).map(({ name }) => name);
    used.add(key.slice(0, longest));
    if ([...found].sort().join() !== [...expected].sort().join())
      wrong.push(`${key}: ${found.join()} for ${expected.join()}`);
  }
  assert.deepEqual(wrong, []);
  assert.deepEqual(
    rows.flatMap(({ keys }) => keys).filter((key) => !used.has(key)),
    [],
    "keys that the table names and the schema does not have",
  );
});
