/**
 * Builds a single executable: `node scripts/build.mjs monoceros|processbin` → dist/<name>. Puts libatomic.so.1, which the
 * runtime needs and slim images lack, beside it, with its licence. With `arm64` as second argument on another machine it
 * builds for that architecture in dist/arm64, without a code cache, because that comes from a run.
 *
 * Steps: bundle with esbuild → run the bundle once on the pinned runtime ("training") and save V8's code cache of that
 * run → put a small loader, the bundle and the cache into a copy of the runtime (`node --build-sea`). Plain ESM for any
 * Node.js ≥ 20, because it runs before anything is built. The runtime of the result is always the one pinned in
 * package.json, stripped (runtime.mjs). It is stripped first, because stripping would remove what is injected.
 *
 * Invariants: the result is created by rename, so it is never incomplete. If the inputs are unchanged nothing is built.
 * Training and result use the same V8 flags, otherwise V8 rejects the cache (checked before the rename).
 */

import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { get } from "node:http";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { BUNDLE_OPTIONS, HEAP_FLAGS } from "./buildOptions.mjs";
import { LIBATOMIC, prepareForeignRuntime, prepareRuntime, prepareSpawnShim, RUN_PATH, RUNTIME } from "./runtime.mjs";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const TRAINING_TIMEOUT_MS = 15_000;

/**
 * Node.js and V8 flags of the executable. Flags that were tried and not used: --optimize-for-size, --lite-mode and
 * --single-threaded delay the start by 15 ms, --single-threaded-gc saves nothing, and --no-opt makes logs ten times
 * slower. Flags that V8 checks its code caches against (--no-maglev, --expose-gc) are set by src/runtime/engineFlags.ts,
 * which explains them.
 */
const EXEC_ARGV = [
  "--no-warnings",
  "--disable-sigusr1",
  ...HEAP_FLAGS,
  // Overrides OPENSSL_CONF, because an invalid file would prevent the start.
  "--openssl-config=/dev/null",
];

const TARGETS = {
  monoceros: {
    entry: "src/main.ts",
    train: trainMonoceros,
    hasDashboard: true,
    hasWorkers: true,
    // All other commands are clients of a controller.
    controllerCommands: ["run", "dev", "validate"],
  },
  processbin: { entry: "cmd/processbin/main.ts", train: trainProcessbin },
};

/**
 * The main script inside the executable. V8's own cache of a SEA main contains only eagerly compiled functions. A script
 * with the cache of a real run starts 7 ms faster, and 20 ms faster with 32 workers than without a cache. getAsset() with
 * an encoding uses a TextDecoder, which takes 5 ms longer than reading the bytes. Client commands have their own bundle
 * and cache without the controller, which saves 4 ms of reading.
 */
const LOADER = `"use strict";
const sea = require("node:sea");
const { Script } = require("node:vm");
const controllerCommands = CONTROLLER_COMMANDS;
const isClient = controllerCommands && /^[a-z]/.test(process.argv[2] ?? "") && !controllerCommands.includes(process.argv[2]);
const script = new Script(Buffer.from(sea.getRawAsset(isClient ? "clientBundle" : "bundle")).latin1Slice(), {
  filename: "NAME.cjs",
  cachedData: CACHED_DATA,
});
if (process.env.SEA_BUILD_CHECK === CHECK_TOKEN) process.stderr.write(script.cachedDataRejected ? "rejected" : "accepted");
else script.runInThisContext()(require, module, exports, process.execPath, "");
`;

const CACHED_DATA = 'Buffer.from(sea.getRawAsset(isClient ? "clientCache" : "cache"))';

/**
 * Runs the bundle like the loader and writes the cache at exit. It disables setFlagsFromString, because V8 would reject a
 * cache that was created with other flags. Arguments: bundle, cache, then the program's.
 */
const TRAINER = `"use strict";
const { readFileSync, writeFileSync } = require("node:fs");
const { Script } = require("node:vm");
require("node:v8").setFlagsFromString = () => {};
const [bundle, cache] = process.argv.splice(2, 2);
const script = new Script(readFileSync(bundle, "latin1"), { filename: "NAME.cjs" });
const save = () => writeFileSync(cache, script.createCachedData());
process.on("exit", save);
if (process.argv[2] !== "--compile-only")
  script.runInThisContext()(require, module, exports, process.execPath, "");
`;

class BuildFailure extends Error {}

async function main(name, arch = process.arch) {
  const isForeign = arch !== process.arch;
  if (isForeign && arch !== "arm64") throw new BuildFailure(`Cannot build for "${arch}" here, only for arm64`);
  const target = TARGETS[name];
  if (target === undefined) throw new BuildFailure(`usage: node scripts/build.mjs ${Object.keys(TARGETS).join("|")}`);
  const startedAt = performance.now();
  const { spawnShim, runtime, libatomic } = makeRuntime(arch);
  const bundle = await makeBundle(join(ROOT, target.entry));
  const clientBundle =
    target.controllerCommands &&
    (await makeBundle(join(ROOT, target.entry), [withoutLazyImportsOf(target.controllerCommands)]));
  const page = target.hasDashboard ? await makeDashboard() : undefined;
  const controllerCommands = JSON.stringify(target.controllerCommands ?? null);
  const runtimeVersion = run(RUNTIME, ["--version"]).trim();
  const self = readFileSync(fileURLToPath(import.meta.url), "utf8");
  const hash = createHash("sha256")
    .update(
      JSON.stringify([
        bundle,
        clientBundle,
        page,
        readFileSync(spawnShim, "base64"),
        runtimeVersion,
        RUN_PATH,
        process.platform,
        arch,
        EXEC_ARGV,
        self,
      ]),
    )
    .digest("hex");

  // With this value in SEA_BUILD_CHECK the loader only reports whether V8 accepts its cache.
  const loader = LOADER.replace("NAME", name)
    .replace("CONTROLLER_COMMANDS", controllerCommands)
    .replace("CHECK_TOKEN", JSON.stringify(hash))
    .replace("CACHED_DATA", isForeign ? "undefined" : CACHED_DATA);
  const dist = isForeign ? join(ROOT, "dist", arch) : join(ROOT, "dist");
  mkdirSync(dist, { recursive: true });
  // Programs that run from source read it here.
  if (page !== undefined) replaceFile(join(dist, "dashboard.html"), page);
  replaceFile(join(dist, "libatomic.so.1"), readFileSync(libatomic));
  replaceFile(join(dist, "libatomic.LICENSE"), readFileSync(join(ROOT, "licenses", "libatomic.txt")));
  const output = join(dist, name);
  const hashFile = join(dist, `.${name}.hash`);
  if (existsSync(output) && existsSync(hashFile) && readFileSync(hashFile, "utf8") === hash) {
    console.log(`${relative(ROOT, output)} is up to date`);
    return;
  }

  const work = mkdtempSync(join(dist, `.${name}-`));
  try {
    const file = (base) => join(work, base);
    // The executable is checked in this directory before it is renamed.
    symlinkSync(LIBATOMIC, file("libatomic.so.1"));
    writeFileSync(file("bundle.cjs"), bundle, "latin1");
    if (clientBundle !== undefined) writeFileSync(file("client.cjs"), clientBundle, "latin1");
    writeFileSync(file("loader.cjs"), loader);
    writeFileSync(file("trainer.cjs"), TRAINER.replace("NAME", name));
    if (!isForeign) await makeCodeCache(target, work);
    const caches = isForeign
      ? {}
      : {
          cache: file("code.cache"),
          ...(clientBundle === undefined ? {} : { clientCache: file("client.cache") }),
        };
    const config = {
      main: file("loader.cjs"),
      executable: runtime,
      output: file(name),
      disableExperimentalSEAWarning: true,
      useCodeCache: !isForeign,
      execArgv: EXEC_ARGV,
      execArgvExtension: "none",
      assets: {
        bundle: file("bundle.cjs"),
        ...(clientBundle === undefined ? {} : { clientBundle: file("client.cjs") }),
        ...caches,
        ...(target.hasWorkers ? { spawn: spawnShim } : {}),
        ...(page === undefined ? {} : { dashboard: join(dist, "dashboard.html") }),
      },
    };
    writeFileSync(file("sea.json"), JSON.stringify(config));
    // With the same flags, because this process creates the loader's own cache.
    run(RUNTIME, [...EXEC_ARGV, `--build-sea=${file("sea.json")}`]);
    if (!isForeign) checkCodeCache(file(name), hash);
    rmSync(hashFile, { force: true });
    renameSync(file(name), output);
    writeFileSync(file("hash"), hash);
    renameSync(file("hash"), hashFile);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(
    `${relative(ROOT, output)} built in ${seconds} s (runtime ${runtimeVersion}, bundle ${Math.round(bundle.length / 1024)} KiB)`,
  );
}

/** Prepares the runtime, its library and the spawn shim. The runtime of this machine makes the executable in any case. */
function makeRuntime(arch) {
  try {
    prepareRuntime();
    const spawnShim = prepareSpawnShim(arch);
    if (arch === process.arch) return { spawnShim, runtime: RUNTIME, libatomic: LIBATOMIC };
    const { node, libatomic } = prepareForeignRuntime(arch);
    return { spawnShim, runtime: node, libatomic };
  } catch (error) {
    throw new BuildFailure(`Cannot prepare the runtime: ${error.message}`);
  }
}

/**
 * The dashboard as one page that contains its script and style. Its content security policy allows exactly these two, by
 * their hashes.
 */
async function makeDashboard() {
  const { build } = await loadEsbuild();
  const { outputFiles } = await build({
    entryPoints: [join(ROOT, "dashboard/main.tsx"), join(ROOT, "dashboard/style.css")],
    absWorkingDir: ROOT,
    outdir: "dist",
    bundle: true,
    write: false,
    format: "iife",
    // The first versions that support light-dark() and <dialog>.
    target: ["chrome123", "firefox121", "safari17.5"],
    charset: "ascii",
    legalComments: "none",
    minify: true,
    logLevel: "warning",
  });
  const text = (end) => outputFiles.find(({ path }) => path.endsWith(end)).text.trim();
  // The script must not contain its own end tag.
  const script = text(".js").replaceAll("</script", "<\\/script");
  const style = text(".css");
  const hash = (content) => `'sha256-${createHash("sha256").update(content).digest("base64")}'`;
  const policy = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
  ].join("; ");
  return readFileSync(join(ROOT, "dashboard/page.html"), "utf8")
    .replace("POLICY", () => policy)
    .replace("STYLE", () => style)
    .replace("SCRIPT", () => script);
}

function replaceFile(path, content) {
  if (existsSync(path) && readFileSync(path).equals(Buffer.from(content))) return;
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
}

function loadEsbuild() {
  return import("esbuild").catch(() => {
    throw new BuildFailure("Cannot build: esbuild is not installed, run `npm ci` first");
  });
}

/** Excludes modules that only these commands import lazily. */
function withoutLazyImportsOf(commands) {
  const files = commands.map((command) => join(ROOT, "src/cli/commands", `${command}.ts`));
  return {
    name: "without-lazy-imports",
    setup: ({ onResolve }) =>
      onResolve({ filter: /^\./ }, ({ path, importer, kind }) =>
        kind === "dynamic-import" && files.includes(importer) ? { path, external: true } : undefined,
      ),
  };
}

/** The program as the text of a function expression. It is ASCII, so that V8 stores one byte per character. */
async function makeBundle(entry, plugins = []) {
  if (!existsSync(entry)) throw new BuildFailure(`Cannot build: ${entry} does not exist`);
  const { build } = await loadEsbuild();
  const version = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).version;
  const result = await build({
    entryPoints: [entry],
    absWorkingDir: ROOT,
    ...BUNDLE_OPTIONS,
    write: false,
    charset: "ascii",
    legalComments: "none",
    minifyWhitespace: true,
    minifySyntax: true,
    plugins,
    define: {
      MONOCEROS_VERSION: JSON.stringify(version),
      MONOCEROS_COMMIT: JSON.stringify(gitCommit()),
      // Only programs that run from source have files beside them.
      "import.meta.dirname": '""',
    },
    logLevel: "warning",
  });
  return `(function(require,module,exports,__filename,__dirname){${result.outputFiles[0].text}\n})`;
}

/** The short commit of the checkout; "unknown" without git or a repository. */
function gitCommit() {
  const git = spawnSync("git", ["rev-parse", "--short=12", "HEAD"], { cwd: ROOT, encoding: "utf8" });
  return git.status === 0 ? git.stdout.trim() : "unknown";
}

/** Writes code.cache into `work` from a training run, or from compilation only if training fails. */
async function makeCodeCache(target, work) {
  const cache = join(work, "code.cache");
  const clientCache = join(work, "client.cache");
  const startWith = (bundle, output, args) =>
    spawn(RUNTIME, [...EXEC_ARGV, join(work, "trainer.cjs"), join(work, bundle), output, ...args], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { ...process.env, NODE_OPTIONS: "" },
      // The bundle looks for the spawn shim where src/runtime/process/spawnShim.ts does.
      cwd: join(ROOT, "src", "runtime", "process"),
    });
  const start = (args) => startWith("bundle.cjs", cache, args);
  const startClient = (args) => startWith("client.cjs", clientCache, args);
  const problem = await target.train(start, (args) => ended(startClient(args)));
  if (
    problem === undefined &&
    existsSync(cache) &&
    (target.controllerCommands === undefined || existsSync(clientCache))
  )
    return;
  // 78 means an invalid configuration, which is a bug of this script and not a problem of the machine.
  if (problem?.startsWith("exit 78:")) throw new BuildFailure(`Cannot train: ${problem}`);
  console.warn(
    `warning: the training run failed (${problem ?? "no code cache"}); the executable will start a little slower`,
  );
  for (const compile of target.controllerCommands === undefined ? [start] : [start, startClient]) {
    const compiled = await ended(compile(["--compile-only"]));
    if (compiled !== undefined) throw new BuildFailure(`Cannot make the code cache: ${compiled}`);
  }
}

/** One short run of the controller: boot, crashes, requests of clients, and a shutdown with a worker that ignores SIGTERM. */
async function trainMonoceros(start, runClient) {
  const scratch = mkdtempSync(join(tmpdir(), "monoceros-train-"));
  try {
    const port = await freePort();
    const config = join(scratch, "train.yaml");
    const socket = join(scratch, "control.sock");
    writeFileSync(
      config,
      [
        `admin: {port: ${port}, address: 127.0.0.1, socket: ${socket}}`,
        `supervisor:`,
        `  workers:`,
        `    - {name: steady, replicas: 2, exec: sleep, args: [1000]}`,
        `    - name: talk`,
        `      replicas: 1`,
        `      exec: sh`,
        `      args: ["-c", "echo plain; echo '{\\"msg\\":\\"x\\"}'; sleep 0.3; exit 1"]`,
        `      max_restarts: -1`,
        `    - name: stubborn`,
        `      replicas: 1`,
        `      exec: sh`,
        `      args: ["-c", "trap '' TERM; sleep 1000"]`,
        `      signal_timeout: 300ms`,
        ``,
      ].join("\n"),
    );
    const child = start(["-c", config]);
    const end = ended(child);
    let up = false;
    for (let attempt = 0; attempt < 100 && child.exitCode === null && !up; attempt++) {
      up = (await fetchStatus(port, "/metrics")) === 200;
      if (!up) await pause(50);
    }
    let clientProblem;
    if (up) {
      clientProblem = await runClient(["status", "--socket", socket]);
      await pause(500);
      for (const path of ["/metrics", "/health", "/health/live", "/health/ready"]) await fetchStatus(port, path);
    }
    child.kill("SIGTERM");
    return (await end) ?? clientProblem ?? (up ? undefined : "the admin port never answered");
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function trainProcessbin(start) {
  return ended(start(["--port", "0", "--host", "127.0.0.1", "--log-lines", "3", "--print-env", "--exit-after", "0.3"]));
}

/** Waits up to 15 s for the exit of a child. Returns undefined on success, otherwise the problem. */
function ended(child) {
  return new Promise((resolve) => {
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += chunk;
    });
    const timer = setTimeout(() => child.kill("SIGKILL"), TRAINING_TIMEOUT_MS);
    child.on("error", (error) => resolve(error.message));
    child.on("exit", async (code, signal) => {
      clearTimeout(timer);
      // Not "close", because a process that was left behind may keep the pipe open.
      await pause(100);
      child.stderr.destroy();
      resolve(code === 0 ? undefined : `exit ${code ?? signal}: ${stderr.trim().slice(-2000)}`);
    });
  });
}

function fetchStatus(port, path) {
  return new Promise((resolve) => {
    get({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode));
    }).on("error", () => resolve(undefined));
  });
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Fails the build if V8 in the executable rejects the cache. */
function checkCodeCache(executable, token) {
  for (const args of [[], ["status"]]) {
    const check = spawnSync(executable, args, { encoding: "utf8", env: { ...process.env, SEA_BUILD_CHECK: token } });
    if (check.status !== 0 || check.stderr !== "accepted")
      throw new BuildFailure(`Cannot use the code cache: ${check.stderr || check.error}, expected "accepted"`);
  }
}

function run(command, args) {
  const result = spawnSync(command, args, { encoding: "utf8" });
  if (result.status === 0) return result.stdout;
  throw new BuildFailure(`Cannot run ${command} ${args.join(" ")}: ${result.error ?? result.stderr.trim()}`);
}

try {
  await main(process.argv[2] ?? "", process.argv[3]);
} catch (error) {
  if (!(error instanceof BuildFailure)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
