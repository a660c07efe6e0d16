/** What all packages share: version, date, architectures and directories. */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

export const ROOT = dirname(dirname(import.meta.dirname));
export const RELEASE = join(ROOT, "dist", "release");

interface Manifest {
  readonly version: string;
  readonly description: string;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

/** package.json is the only place that has the version. */
export const MANIFEST = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as Manifest;
export const VERSION = MANIFEST.version;
export const NODE_VERSION = MANIFEST.devDependencies["node"] ?? "";
export const ENVOY_VERSION =
  /^version=(.+)$/mu.exec(readFileSync(join(ROOT, "scripts", "envoy.sh"), "utf8"))?.[1] ?? "";

export const SUMMARY = "Runs N copies of a single-threaded server, keeps them alive, and balances traffic across them.";

/** Names of Node.js, which npm uses too. */
export type Arch = "x64" | "arm64";

/** The names of an architecture in each kind of package. */
export const ARCHITECTURES: Readonly<Record<Arch, { readonly machine: string; readonly debian: string }>> = {
  x64: { machine: "x86_64", debian: "amd64" },
  arm64: { machine: "aarch64", debian: "arm64" },
};

export const OWN_ARCH: Arch = process.arch === "arm64" ? "arm64" : "x64";

/** Where the executables of an architecture are. */
export function distOf(arch: Arch): string {
  return arch === OWN_ARCH ? join(ROOT, "dist") : join(ROOT, "dist", arch);
}

/**
 * Modification time of every packaged file, in seconds: SOURCE_DATE_EPOCH, otherwise the time of the commit, otherwise
 * 1980-01-01, the oldest that zip can express.
 */
export const EPOCH = findEpoch();

function findEpoch(): number {
  const oldest = Date.UTC(1980, 0, 1) / 1000;
  const given = process.env["SOURCE_DATE_EPOCH"];
  if (given !== undefined) {
    if (!/^\d{1,10}$/u.test(given)) throw new Error(`SOURCE_DATE_EPOCH must be a number of seconds, got "${given}"`);
    return Math.max(oldest, Number(given));
  }
  const git = spawnSync("git", ["log", "-1", "--format=%ct"], { cwd: ROOT, encoding: "utf8" });
  return git.status === 0 ? Math.max(oldest, Number(git.stdout)) : oldest;
}
