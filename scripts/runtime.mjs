/**
 * Prepares the runtime that executables are made from: node_modules/.runtime/node, a stripped copy of the pinned runtime
 * (see slimElf.mjs), with libatomic.so.1 beside it, where its run path leads. Does nothing if both are up to date.
 *
 * Run as a program (`node scripts/runtime.mjs`, part of the setup) it also makes node_modules/.bin/node point to the copy:
 * the pinned runtime itself does not start on a machine without libatomic.
 *
 * Plain ESM for any Node.js >= 20, because it runs before the pinned runtime can.
 */

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { slimElf } from "./slimElf.mjs";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const PINNED = join(ROOT, "node_modules", "node", "bin", "node");
const DIRECTORY = join(ROOT, "node_modules", ".runtime");

/** The stripped runtime, and the library that it needs besides those of Debian's essential packages. */
export const RUNTIME = join(DIRECTORY, "node");
export const LIBATOMIC = join(DIRECTORY, "libatomic.so.1");

/** First where packages install the library, then beside the executable. */
export const RUN_PATH = "$ORIGIN/../lib/monoceros:$ORIGIN";

/** Makes RUNTIME and LIBATOMIC. @throws Error */
export function prepareRuntime() {
  if (!existsSync(PINNED)) throw new Error(`${relative(ROOT, PINNED)} does not exist, run \`make setup\` first`);
  mkdirSync(DIRECTORY, { recursive: true });
  if (!existsSync(LIBATOMIC)) run("sh", [join(ROOT, "scripts", "libatomic.sh")]);

  const stampFile = join(DIRECTORY, ".source");
  const stamp = describeSource();
  if (existsSync(RUNTIME) && existsSync(stampFile) && readFileSync(stampFile, "utf8") === stamp) return;
  const copy = join(DIRECTORY, `.node.${process.pid}`);
  try {
    writeFileSync(copy, slimElf(readFileSync(PINNED), RUN_PATH), { mode: 0o755 });
    // The linker resolves every symbol at the start, so this also proves that the library is the right one.
    run(copy, ["--version"]);
    rmSync(stampFile, { force: true });
    renameSync(copy, RUNTIME);
    writeFileSync(stampFile, stamp);
  } finally {
    rmSync(copy, { force: true });
  }
}

/** Makes the spawn shim and returns its path for an architecture. @throws Error */
export function prepareSpawnShim(arch = process.arch) {
  run("sh", [join(ROOT, "scripts", "spawnShim.sh")]);
  return join(DIRECTORY, `spawn-${arch === "arm64" ? "aarch64" : "x86_64"}`);
}

/** Makes the stripped runtime and the library of another architecture, which cannot run here. @throws Error */
export function prepareForeignRuntime(arch) {
  run("sh", [join(ROOT, "scripts", "foreignRuntime.sh")]);
  run("sh", [join(ROOT, "scripts", "libatomic.sh"), arch]);
  const directory = join(DIRECTORY, arch);
  const node = join(directory, "node");
  writeFileSync(`${node}.new`, slimElf(readFileSync(join(directory, "node.original")), RUN_PATH), { mode: 0o755 });
  renameSync(`${node}.new`, node);
  return { node, libatomic: join(directory, "libatomic.so.1") };
}

/** What the copy depends on. */
function describeSource() {
  const { size, mtimeMs } = statSync(PINNED);
  const code = ["slimElf.mjs", "runtime.mjs"].map((file) => readFileSync(join(ROOT, "scripts", file)));
  const hash = createHash("sha256").update(Buffer.concat(code)).digest("hex");
  return `${size} ${mtimeMs} ${hash}\n`;
}

function linkRuntime() {
  const link = join(ROOT, "node_modules", ".bin", "node");
  symlinkSync(relative(dirname(link), RUNTIME), `${link}.new`);
  renameSync(`${link}.new`, link);
}

function run(command, args) {
  const result = spawnSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  if (result.stderr) process.stderr.write(result.stderr);
  if (result.status !== 0)
    throw new Error(`${command} ${args.join(" ")} failed: ${result.error ?? `exit ${result.status ?? result.signal}`}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  prepareRuntime();
  linkRuntime();
}
