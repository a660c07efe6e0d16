import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ControllerError } from "../../base/errors.ts";
import { TokenFile } from "./tokenFile.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-token-"));
after(() => rmSync(directory, { recursive: true }));

const FIRST = "first-token-of-enough-length";
const SECOND = "second-token-of-enough-length";

let files = 0;
function newFile(text: string): string {
  const path = join(directory, `token-${files++}`);
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

test("only the exact token matches, without surrounding space", async () => {
  const file = await TokenFile.open(newFile(`  ${FIRST}\n`), assert.fail);
  assert.ok(await file.matches(FIRST));
  for (const wrong of ["", FIRST.slice(0, -1), `${FIRST}x`, FIRST.toUpperCase(), ` ${FIRST}`, SECOND])
    assert.ok(!(await file.matches(wrong)), wrong);
});

test("a changed or replaced file takes effect at once", async () => {
  const path = newFile(FIRST);
  const file = await TokenFile.open(path, assert.fail);
  writeFileSync(path, SECOND);
  assert.deepEqual([await file.matches(FIRST), await file.matches(SECOND)], [false, true]);
  renameSync(newFile(FIRST), path);
  assert.deepEqual([await file.matches(FIRST), await file.matches(SECOND)], [true, false]);
});

test("while the file is missing or empty every token is refused, which is logged once per reason", async () => {
  const path = newFile(FIRST);
  const warnings: string[] = [];
  const file = await TokenFile.open(path, (message) => warnings.push(message));
  rmSync(path);
  for (let look = 0; look < 3; look++) assert.ok(!(await file.matches(FIRST)));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? "", /there is no such file; requests with a token are refused until the file is valid/u);
  writeFileSync(path, "");
  assert.ok(!(await file.matches("")));
  assert.match(warnings[1] ?? "", /it is empty/u);
  writeFileSync(path, SECOND);
  assert.ok(await file.matches(SECOND));
  assert.ok(!warnings.join().includes(SECOND));
});

test("a FIFO instead of the file refuses requests and blocks nothing", async () => {
  const path = newFile(FIRST);
  const warnings: string[] = [];
  const file = await TokenFile.open(path, (message) => warnings.push(message));
  rmSync(path);
  execFileSync("mkfifo", [path]);
  assert.deepEqual(await Promise.all([FIRST, SECOND, FIRST].map((text) => file.matches(text))), [false, false, false]);
  assert.match(
    warnings.join(),
    /^[^,]*it is a FIFO, expected a file; requests with a token are refused until the file is valid$/u,
  );
});

test("a file without a token is refused at startup", async () => {
  await assert.rejects(
    TokenFile.open(newFile("\n"), assert.fail),
    (error) => error instanceof ControllerError && error.code === "TOKEN_FILE_INVALID" && error.exitCode === 78,
  );
});
