/** The spawn shim that the setup has built for both architectures. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const MACHINES = { x86_64: 62, aarch64: 183 } as const;
const PT_INTERP = 3;

for (const [architecture, machine] of Object.entries(MACHINES))
  test(`the spawn shim for ${architecture} matches SHA256SUMS, is static and smaller than 8 KiB`, () => {
    const name = `spawn-${architecture}`;
    const file = readFileSync(new URL(`../node_modules/.runtime/${name}`, import.meta.url));
    const sums = readFileSync(new URL("../native/spawn/SHA256SUMS", import.meta.url), "utf8");
    assert.ok(sums.includes(`${createHash("sha256").update(file).digest("hex")}  ${name}\n`));
    assert.ok(file.length < 8192, `${file.length} bytes`);
    assert.equal(file.readUInt16LE(18), machine);
    const [at, size, count] = [Number(file.readBigUInt64LE(32)), file.readUInt16LE(54), file.readUInt16LE(56)];
    const types = Array.from({ length: count }, (_, index) => file.readUInt32LE(at + index * size));
    assert.equal(types.includes(PT_INTERP), false, "a static program has no interpreter");
  });
