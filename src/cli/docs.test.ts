import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { COMMON_FLAGS } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { cliPage } from "./docs.ts";

test("docs/cli.md matches the commands", () => {
  const page = readFileSync(new URL("../../docs/cli.md", import.meta.url), "utf8");
  assert.equal(page, cliPage(), "stale: run `npm run docs`");
});

test("every command has a summary, an example and documented flags", () => {
  for (const { name, summary, flags, examples } of COMMANDS) {
    assert.match(summary, /^[A-Z].*[^.]$/u, name);
    assert.ok(examples.length > 0, name);
    for (const { command, doc } of examples) {
      assert.ok(command.startsWith(`monoceros ${name}`) || command.startsWith("monoceros -c"), command);
      assert.match(doc, /[^.]$/u, command);
    }
    for (const [flag, { doc, type, value }] of Object.entries(flags)) {
      assert.match(doc, /[^.]$/u, flag);
      assert.equal(type === "string", value !== undefined, flag);
    }
  }
});

test("no command declares a flag or letter twice", () => {
  for (const { name, flags } of COMMANDS) {
    for (const common of Object.keys(COMMON_FLAGS)) assert.ok(!Object.hasOwn(flags, common), `${name} --${common}`);
    const letters = Object.values({ ...flags, ...COMMON_FLAGS }).flatMap(({ short }) => short ?? []);
    assert.equal(new Set(letters).size, letters.length, name);
  }
});
