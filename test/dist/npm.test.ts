import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { OWN_NODE } from "./installation.ts";
import { NpmRegistry } from "./npmRegistry.ts";
import { smoke } from "./smoke.ts";

/** A project in which `npm install` was run. */
async function install(directory: string, packages: readonly string[]): Promise<void> {
  await using registry = await NpmRegistry.start();
  writeFileSync(join(directory, "package.json"), "{}");
  const flags = ["--registry", registry.url, "--no-audit", "--no-fund", "--cache", join(directory, ".cache")];
  const npm = spawn("npm", ["install", ...flags, ...packages], {
    cwd: directory,
    env: { PATH: process.env["PATH"], HOME: directory },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  for (const stream of [npm.stdout, npm.stderr]) stream.on("data", (chunk: Buffer) => (said += chunk));
  const [code] = await once(npm, "close");
  assert.equal(code, 0, said);
}

test("npm install monoceros @monoceros/envoy gives a project that serves through Envoy", async () => {
  await using project = await mkdtempDisposable(join(tmpdir(), "monoceros-npm-"));
  await install(project.path, ["monoceros", "@monoceros/envoy"]);
  const packages = readdirSync(join(project.path, "node_modules", "@monoceros")).sort();
  assert.deepEqual(packages, ["envoy", `envoy-linux-${process.arch}`, `linux-${process.arch}`]);
  const program = join(project.path, "node_modules", ".bin", "monoceros");
  await smoke({ program, hasEnvoy: true, path: OWN_NODE });
});

/** A project with the shim, and a platform's package whose executable is a shell script. */
function scene(directory: string, script: string): string {
  const modules = join(directory, "node_modules");
  const bin = join(modules, "@monoceros", `linux-${process.arch}`, "bin");
  mkdirSync(bin, { recursive: true });
  mkdirSync(join(modules, "monoceros"));
  cpSync("packaging/npm/monoceros.cjs", join(modules, "monoceros", "monoceros.cjs"));
  writeFileSync(join(bin, "monoceros"), script, { mode: 0o755 });
  return join(modules, "monoceros", "monoceros.cjs");
}

test("the shim becomes the executable: process id, arguments, environment, exit code and signals are its own", async () => {
  await using project = await mkdtempDisposable(join(tmpdir(), "monoceros-shim-"));
  const shim = scene(project.path, '#!/bin/sh\necho "$$ $WORD $*"\nread line\nexit 7\n');
  const start = () =>
    spawn(process.execPath, [shim, "a b", "--flag"], { stdio: ["pipe", "pipe", "inherit"], env: { WORD: "hello" } });
  for (const [act, ending] of [
    [(child: ReturnType<typeof start>) => child.stdin.end("\n"), [7, null]],
    [(child: ReturnType<typeof start>) => child.kill("SIGTERM"), [null, "SIGTERM"]],
  ] as const) {
    const child = start();
    const ended = once(child, "exit");
    const [line] = await once(child.stdout, "data");
    assert.equal(String(line), `${child.pid} hello a b --flag\n`);
    act(child);
    assert.deepEqual(await ended, ending);
  }
});

test("where the shim cannot start the executable it says why and what to do", async () => {
  await using project = await mkdtempDisposable(join(tmpdir(), "monoceros-shim-"));
  const shim = scene(project.path, "#!/bin/sh\necho started\n");
  /** Runs the shim after `change` in the same process. */
  const run = (change: string) => {
    writeFileSync(join(project.path, "change.cjs"), change);
    const args = ["--no-warnings", "--require", join(project.path, "change.cjs"), shim, "version"];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
    return { status, stdout, stderr };
  };
  assert.deepEqual(run(""), { status: 0, stdout: "started\n", stderr: "" });

  const executable = realpathSync(join(project.path, `node_modules/@monoceros/linux-${process.arch}/bin/monoceros`));
  for (const [change, message] of [
    [
      'delete process.execve; Object.defineProperty(process, "version", { value: "v20.1.0" })',
      `this command needs Node.js 22.15 or later, and this is v20.1.0. Update Node.js, or run the executable itself: ${executable}`,
    ],
    [
      'Object.defineProperty(process, "platform", { value: "darwin" }); Object.defineProperty(process, "arch", { value: "arm64" })',
      "it runs on Linux (x64 and arm64), not on darwin-arm64. Run it in a Linux container or virtual machine.",
    ],
    [
      'require("node:fs").existsSync = () => false',
      /^it needs glibc, and \/lib.*ld-linux.* does not exist\. Alpine and other musl distributions are not supported/u,
    ],
  ] as const) {
    const { status, stdout, stderr } = run(change);
    assert.deepEqual([status, stdout], [1, ""]);
    const said = /^monoceros: cannot start: (.+)\n$/u.exec(stderr)?.[1] ?? stderr;
    if (typeof message === "string") assert.equal(said, message);
    else assert.match(said, message);
  }

  rmSync(join(project.path, "node_modules/@monoceros"), { recursive: true });
  assert.match(
    run("").stderr,
    /the package @monoceros\/linux-.* is not installed\. .*npm install --include=optional\n$/u,
  );
});

test("the Node.js on PATH, which may be older, prints the reason and no syntax error", () => {
  const { status, stderr } = spawnSync("node", ["packaging/npm/monoceros.cjs"], { encoding: "utf8" });
  assert.equal(status, 1);
  assert.match(stderr, /^monoceros: cannot start: the package .* is not installed/u);
});
