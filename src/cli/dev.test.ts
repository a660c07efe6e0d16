import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryTerminal } from "../../test/support/memoryTerminal.ts";
import { cli } from "./cli.ts";
import { COMMAND_GROUPS } from "./commands.ts";

async function refusalOf(...argv: readonly string[]): Promise<string> {
  const terminal = new MemoryTerminal();
  const code = await cli(argv, { groups: COMMAND_GROUPS, env: {}, terminal });
  assert.equal(code, 2, terminal.stderr);
  return terminal.stderr.split("\n")[0] ?? "";
}

test("dev needs a file or a program, not both", async () => {
  assert.match(await refusalOf("dev"), /missing -c FILE, or -- and a command/u);
  assert.match(await refusalOf("dev", "-c", "x.yaml", "--", "node"), /exclude each other/u);
});

test("with a file, dev accepts only the number of workers", async () => {
  assert.match(await refusalOf("dev", "-c", "x.yaml", "--port", "8000"), /--port needs a command after --/u);
  assert.match(
    await refusalOf("dev", "-c", "x.yaml", "-n", "0"),
    /-n: expected a number from 1 to 10000, or auto, got "0"/u,
  );
});

test("directories to watch are given only to a command that watches", async () => {
  assert.match(await refusalOf("run", "-c", "x.yaml", "--watch-path", "src"), /--watch-path needs --watch/u);
});
