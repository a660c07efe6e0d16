/**
 * `node scripts/dist/build.ts [x64] [arm64]`: makes every package of the version in package.json from dist/, for these
 * architectures, in dist/release/. Replaces the directory only when all packages are complete.
 */
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemPackages } from "./nfpm.ts";
import { commonNpmPackages, platformNpmPackages } from "./npm.ts";
import { ociArchive } from "./oci.ts";
import { type Payload, readPayload } from "./payload.ts";
import { ARCHITECTURES, type Arch, OWN_ARCH, RELEASE, ROOT } from "./release.ts";
import { boms, sha256 } from "./sbom.ts";
import { tarballs } from "./tarball.ts";
import { wheel } from "./wheel.ts";

type Packages = AsyncIterable<readonly [name: string, content: Buffer]>;

/** The packages of one architecture. */
async function* packagesOf(payload: Payload): Packages {
  yield wheel(payload);
  yield* await platformNpmPackages(payload);
  yield* await tarballs(payload);
  yield* await systemPackages(payload);
  yield* await boms(payload);
}

async function* allPackages(architectures: readonly Arch[]): Packages {
  const payloads = await Promise.all(architectures.map(readPayload));
  for (const payload of payloads) yield* packagesOf(payload);
  const [first] = payloads;
  if (first !== undefined) yield* await commonNpmPackages(first);
  yield ociArchive(payloads);
}

function parseArchitectures(names: readonly string[]): Arch[] {
  const known = Object.keys(ARCHITECTURES) as Arch[];
  return names.map((name) => {
    const arch = known.find((each) => each === name);
    if (arch === undefined) throw new Error(`unknown architecture "${name}", expected ${known.join(" or ")}`);
    return arch;
  });
}

async function main(names: readonly string[]): Promise<void> {
  const architectures = names.length === 0 ? [OWN_ARCH] : parseArchitectures(names);
  mkdirSync(join(ROOT, "dist"), { recursive: true });
  const work = mkdtempSync(join(ROOT, "dist", ".release-"));
  try {
    const sums: string[] = [];
    for await (const [name, content] of allPackages(architectures)) {
      writeFileSync(join(work, name), content);
      sums.push(`${sha256(content)}  ${name}\n`);
      console.log(`dist/release/${name}  ${(content.length / 1e6).toFixed(1)} MB`);
    }
    // Sorted by name; `sha256sum -c SHA256SUMS` checks it.
    sums.sort((a, b) => (a.slice(66) < b.slice(66) ? -1 : 1));
    writeFileSync(join(work, "SHA256SUMS"), sums.join(""));
    chmodSync(work, 0o755);
    rmSync(RELEASE, { recursive: true, force: true });
    renameSync(work, RELEASE);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

await main(process.argv.slice(2));
