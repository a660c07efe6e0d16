/**
 * `node scripts/dist/build.ts [x64] [arm64]`: makes every package of the version in package.json from dist/, for these
 * architectures, in dist/release/. Replaces the directory only when all packages are complete.
 */
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { commonNpmPackages, platformNpmPackages } from "./npm.ts";
import { type Payload, readPayload } from "./payload.ts";
import { ARCHITECTURES, type Arch, OWN_ARCH, RELEASE, ROOT } from "./release.ts";
import { wheel } from "./wheel.ts";

type Packages = AsyncIterable<readonly [name: string, content: Buffer]>;

async function* packagesOf(payload: Payload): Packages {
  yield wheel(payload);
  yield* await platformNpmPackages(payload);
  if (payload.arch === OWN_ARCH) yield* await commonNpmPackages(payload);
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
    for (const arch of architectures)
      for await (const [name, content] of packagesOf(await readPayload(arch))) {
        writeFileSync(join(work, name), content);
        console.log(`dist/release/${name}  ${(content.length / 1e6).toFixed(1)} MB`);
      }
    chmodSync(work, 0o755);
    rmSync(RELEASE, { recursive: true, force: true });
    renameSync(work, RELEASE);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

await main(process.argv.slice(2));
