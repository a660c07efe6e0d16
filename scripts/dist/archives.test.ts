import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { Content, type Entry, sorted } from "./content.ts";
import { gzip, tar } from "./tar.ts";
import { zip } from "./zip.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-archives-"));
after(() => rmSync(directory, { recursive: true }));

/** Small, large, empty, executable, and with a name that is too long for one field of a tar header. */
const ENTRIES: readonly Entry[] = [
  { path: "bin/program", mode: 0o755, content: new Content(Buffer.alloc(200_001, "large content; ")) },
  { path: "empty", content: new Content("") },
  { path: `share/${"long/".repeat(20)}name.txt`, content: new Content("deep\n") },
  { path: "umlaut-ü.txt", content: new Content("ü\n") },
];

function save(name: string, bytes: Buffer): string {
  const path = join(directory, name);
  writeFileSync(path, bytes);
  return path;
}

test("zip files are read by Python, with modes and contents", async () => {
  const file = save("a.zip", await zip(ENTRIES));
  const listed = execFileSync("python3", [
    "-c",
    `import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z:
    assert z.testzip() is None
    for i in z.infolist(): print(i.filename, oct(i.external_attr >> 16), len(z.read(i)))`,
    file,
  ]);
  assert.equal(
    listed.toString(),
    ENTRIES.map(({ path, mode = 0o644, content }) => `${path} 0o100${mode.toString(8)} ${content.bytes.length}\n`).join(
      "",
    ),
  );
});

test("compressed tar files are read by tar, with directories, modes and contents", async () => {
  const pieces = tar(ENTRIES, { hasDirectories: true });
  const file = save("a.tar.gz", await gzip(pieces));
  execFileSync("tar", ["-xzf", file, "-C", directory]);
  for (const { path, content } of ENTRIES)
    assert.ok(execFileSync("cat", [join(directory, path)]).equals(content.bytes), path);
  const listed = execFileSync("tar", ["-tvzf", file, "--numeric-owner"], { encoding: "utf8" });
  assert.match(listed, /^drwxr-xr-x 0\/0 +0 .* share\/long\/long\/$/mu);
  assert.match(listed, /^-rwxr-xr-x 0\/0 +200001 .* bin\/program$/mu);
  assert.ok(gunzipSync(await gzip(pieces)).equals(Buffer.concat(pieces.map(({ bytes }) => bytes))));
});

test("the same entries give the same bytes", async () => {
  const copy = ENTRIES.map((entry) => ({ ...entry, content: new Content(Buffer.from(entry.content.bytes)) }));
  assert.ok((await zip(ENTRIES)).equals(await zip(copy)));
  assert.ok((await gzip(tar(ENTRIES))).equals(await gzip(tar(copy))));
});

test("two files of a package must not have the same path", () => {
  const [first] = ENTRIES;
  assert.ok(first !== undefined);
  assert.deepEqual(
    sorted([...ENTRIES].reverse()).map(({ path }) => path),
    ENTRIES.map(({ path }) => path),
  );
  assert.throws(() => sorted([...ENTRIES, first]), /two files of a package have the path bin\/program/u);
});
