/** Which npm packages are part of the executable: those from which the bundler takes files. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { BUNDLE_OPTIONS } from "../buildOptions.mjs";
import { ROOT } from "./release.ts";

export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly directory: string;
}

let packages: Promise<readonly NpmPackage[]> | undefined;

/** Sorted by name. */
export function npmPackages(): Promise<readonly NpmPackage[]> {
  packages ??= findPackages();
  return packages;
}

async function findPackages(): Promise<readonly NpmPackage[]> {
  const common = { absWorkingDir: ROOT, bundle: true, write: false, outdir: "dist", metafile: true } as const;
  const results = await Promise.all([
    build({ ...BUNDLE_OPTIONS, ...common, entryPoints: ["src/main.ts"], logLevel: "error" }),
    build({ ...common, entryPoints: ["dashboard/main.tsx", "dashboard/style.css"], logLevel: "error" }),
  ]);
  const files = results.flatMap(({ metafile }) => Object.keys(metafile.inputs));
  const names = new Set(files.flatMap((file) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//u.exec(file)?.[1] ?? []));
  return [...names].sort().map((name) => {
    const directory = join(ROOT, "node_modules", name);
    const manifest = JSON.parse(readFileSync(join(directory, "package.json"), "utf8")) as NpmPackage;
    return { name, version: manifest.version, license: manifest.license, directory };
  });
}
