/** slimElf makes executables smaller and relocatable without changing their behaviour, and rejects unsupported ones. */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { readRunPath, slimElf, UnsupportedElf } from "./slimElf.mjs";

const RUN_PATH = "$ORIGIN/../lib/monoceros:$ORIGIN";
/** The original runtime with symbols and debug information, and a small position-independent program. */
const PINNED_RUNTIME = "node_modules/node/bin/node";
const SMALL = "/bin/cat";
/** The runtime needs libatomic.so.1, which may not be installed on the machine. */
const WITH_LIBATOMIC = { ...process.env, LD_LIBRARY_PATH: resolve("node_modules/.runtime") };

for (const file of [PINNED_RUNTIME, SMALL]) {
  test(`a slimmed copy of ${file} runs and searches libraries in the run path first`, async () => {
    await using directory = await mkdtempDisposable(join(tmpdir(), "m-"));
    const original = readFileSync(file);
    const slim = slimElf(original, RUN_PATH);
    assert.ok(slim.length < original.length + 64);
    assert.deepEqual(readRunPath(slim), RUN_PATH.split(":"));

    const copy = join(directory.path, "copy");
    writeFileSync(copy, slim, { mode: 0o755 });
    const versionOf = (program: string) =>
      execFileSync(program, ["--version"], { encoding: "utf8", env: WITH_LIBATOMIC });
    assert.equal(versionOf(copy), versionOf(file));
    const traced = spawnSync(copy, ["--version"], { encoding: "utf8", env: { LD_DEBUG: "libs" } });
    assert.match(
      traced.stderr,
      new RegExp(`search path=${directory.path}/\\.\\./lib/monoceros.*:${directory.path}/?.*RUNPATH`, "u"),
    );
  });
}

test("slimElf removes debug information and symbols from the runtime", () => {
  const original = readFileSync(PINNED_RUNTIME);
  assert.ok(original.includes(".debug_info"));
  const slim = slimElf(original, RUN_PATH);
  for (const section of [".debug_info", ".symtab", ".strtab\0"]) assert.ok(!slim.includes(section, -8192), section);
  // The build of a single executable searches for this text.
  assert.ok(slim.includes("NODE_SEA_FUSE_"));
});

const DYNAMIC_TYPE = 6;

/** Offset in the file of the header of the first section of `type`. */
function sectionHeader(file: Buffer, type: number): number {
  const table = Number(file.readBigUInt64LE(40));
  for (let at = table; at < file.length; at += 64) if (file.readUInt32LE(at + 4) === type) return at;
  assert.fail(`no section of type ${type}`);
}

const REJECTED: Readonly<Record<string, (file: Buffer) => Buffer>> = {
  "is not a little-endian ELF64 file": () => Buffer.from("#!/bin/sh\nexit 0\n".repeat(10)),
  "is cut off": (file) => file.subarray(0, file.length - 1),
  "has no section table": (file) => {
    file.writeUInt16LE(0, 60);
    return file;
  },
  "has a run path already": (file) => slimElf(file, RUN_PATH),
  "has no spare entry": (file) => {
    // Make the dynamic section end with its first null entry.
    const header = sectionHeader(file, DYNAMIC_TYPE);
    const from = Number(file.readBigUInt64LE(header + 24));
    let entry = from;
    while (file.readBigUInt64LE(entry) !== 0n) entry += 16;
    file.writeBigUInt64LE(BigInt(entry + 16 - from), header + 32);
    return file;
  },
  "is linked statically": (file) => {
    file.writeUInt32LE(1, sectionHeader(file, DYNAMIC_TYPE) + 4);
    return file;
  },
  "no segment has padding": (file) => {
    // Replace the zero after each segment, so that there is no padding.
    const header = Number(file.readBigUInt64LE(32));
    for (let at = header; at < header + file.readUInt16LE(56) * 56; at += 56) {
      if (file.readUInt32LE(at) !== 1) continue;
      const end = Number(file.readBigUInt64LE(at + 8) + file.readBigUInt64LE(at + 32));
      if (file[end] === 0) file[end] = 1;
    }
    return file;
  },
};

for (const [problem, change] of Object.entries(REJECTED)) {
  test(`slimElf rejects an executable that cannot be changed safely: ${problem}`, () => {
    const file = change(readFileSync(SMALL));
    assert.throws(
      () => slimElf(file, RUN_PATH),
      (error: Error) => error instanceof UnsupportedElf && error.message.includes(problem),
    );
  });
}
