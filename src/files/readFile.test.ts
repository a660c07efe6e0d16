import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FileError, readWholeFile } from "./readFile.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-read-"));
after(() => rmSync(directory, { recursive: true }));

const at = (name: string) => join(directory, name);

function fileError(message: RegExp): (error: unknown) => boolean {
  return (error) => error instanceof FileError && message.test(error.message);
}

test("a regular file is read completely, also through a symbolic link", async () => {
  const text = "x".repeat(200_000);
  writeFileSync(at("file"), text);
  symlinkSync("file", at("link"));
  assert.equal((await readWholeFile(at("link"))).bytes.toString(), text);
  assert.equal((await readWholeFile(at("file"))).stats.size, text.length);
  assert.match((await readWholeFile("/proc/self/status")).bytes.toString(), /^Name:/u);
});

test("FIFOs, directories, sockets and devices are rejected at once, and the error names the type", async (context) => {
  execFileSync("mkfifo", [at("fifo")]);
  mkdirSync(at("directory"));
  const server = createServer().listen(at("socket"));
  context.after(() => server.close());
  await new Promise((resolve) => server.once("listening", resolve));
  symlinkSync("fifo", at("to-fifo"));
  await assert.rejects(readWholeFile(at("fifo")), fileError(/^it is a FIFO, expected a file$/u));
  await assert.rejects(readWholeFile(at("to-fifo")), fileError(/FIFO/u));
  await assert.rejects(readWholeFile(at("directory")), fileError(/it is a directory, expected a file/u));
  await assert.rejects(readWholeFile(at("socket")), fileError(/it is a socket/u));
  for (const device of ["/dev/zero", "/dev/null"])
    await assert.rejects(readWholeFile(device), fileError(/it is a device/u));
  await assert.rejects(readWholeFile(at("to-fifo"), { isDirect: true }), fileError(/it is a symlink/u));
});

test("a missing or too large file is rejected with the reason", async () => {
  await assert.rejects(readWholeFile(at("none")), fileError(/^there is no such file$/u));
  await assert.rejects(readWholeFile(at("file/x")), fileError(/^there is no such file$/u));
  writeFileSync(at("large"), "12345");
  assert.equal((await readWholeFile(at("large"), { maxBytes: 5 })).bytes.length, 5);
  await assert.rejects(readWholeFile(at("large"), { maxBytes: 4 }), fileError(/larger than the 4 bytes/u));
  // Its size is reported as 0, but reading it does not end.
  await assert.rejects(readWholeFile("/proc/self/pagemap", { maxBytes: 1 << 20 }), fileError(/larger than/u));
});

test("a file that cannot be read in time is rejected", async () => {
  await assert.rejects(
    readWholeFile("/proc/self/pagemap", { maxBytes: 1e9, boundMs: 1 }),
    fileError(/within 0\.001 s/u),
  );
});
