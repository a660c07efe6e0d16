/**
 * An installed package, on this machine or in a root file system of its own. Starts its executable there. A controller in
 * a root of its own is PID 1 of new namespaces, which end with it.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { eventually, listDescendants, untilGone } from "../support/controller.ts";

export const RELEASE = resolve("dist/release");
export const VERSION: string = JSON.parse(readFileSync("package.json", "utf8")).version;
/** A root file system as in debian:*-slim, see scripts/debianBase.sh. */
export const DEBIAN_BASE = resolve("node_modules/.tools/debian-base.tar");

const UNSHARE = ["--mount", "--pid", "--fork", "--kill-child"];
const IN_ROOT = { worker: "/opt/smoke/processbin", directory: "/tmp" };

/** Arguments: root, directory for /opt/smoke, directory for /tmp, then the command. All mounts are private. */
const ENTER = `set -e
root=$1 smoke=$2 tmp=$3
shift 3
mkdir -p "$root/opt/smoke" "$root/proc" "$root/dev" "$root/tmp"
mount --bind "$root" "$root"
mount --bind "$smoke" "$root/opt/smoke"
mount --bind "$tmp" "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" "$@"`;

export interface Installation {
  /** The executable or its shim, as a path in `root`. */
  readonly program: string;
  /** Undefined: this machine. */
  readonly root?: string;
  /** Whether the package, or another beside it, contains Envoy. */
  readonly hasEnvoy: boolean;
  /** A Node.js for the shim. */
  readonly path?: string;
}

export interface Answer {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Why roots cannot be entered here; undefined if they can. */
export function whyNoRoots(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can enter another root file system";
  if (!existsSync(DEBIAN_BASE)) return "node_modules/.tools/debian-base.tar is missing, see scripts/debianBase.sh";
  const { status, stderr } = spawnSync("unshare", [...UNSHARE, "mount", "-t", "proc", "proc", "/proc"], {
    encoding: "utf8",
  });
  return status === 0 ? undefined : `namespaces are not permitted here: ${stderr.trim()}`;
}

/** Runs a command on this machine. @throws AssertionError */
export function sh(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", env, maxBuffer: 1 << 26 });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${error ?? ""}${stderr}${stdout}`);
  return stdout;
}

/** Unpacks a tar file as root would. */
export function unpack(file: string, directory: string): void {
  mkdirSync(directory, { recursive: true });
  sh("tar", ["-xf", file, "-C", directory]);
}

/** Runs a command in the root of an installation, in namespaces of its own. */
export function runIn({ root, path }: Installation, directory: string, command: readonly string[]): Answer {
  const [file = "", ...args] = root === undefined ? command : enter(root, directory, command);
  const { status, stdout, stderr } = spawnSync(file, args, { encoding: "utf8", env: environment(root, path) });
  return { code: status, stdout, stderr };
}

function enter(root: string, directory: string, command: readonly string[]): string[] {
  return ["unshare", ...UNSHARE, "sh", "-c", ENTER, "sh", root, workerDirectory(), directory, ...command];
}

/** PATH without anything of this project, so that only Envoy of the installation is found. */
function environment(root: string | undefined, path: string | undefined): NodeJS.ProcessEnv {
  const system = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
  return { PATH: root === undefined && path !== undefined ? `${path}:${system}` : system, HOME: "/tmp" };
}

/** A directory with nothing but the worker and the library that it needs. */
function workerDirectory(): string {
  const directory = resolve("node_modules/.tools/smoke");
  mkdirSync(directory, { recursive: true });
  for (const name of ["processbin", "libatomic.so.1"]) {
    const [source, target] = [resolve("dist", name), join(directory, name)];
    // Test files run at the same time, so the file appears complete.
    const copy = `${target}.${process.pid}`;
    rmSync(copy, { force: true });
    try {
      linkSync(source, copy);
    } catch {
      copyFileSync(source, copy);
    }
    renameSync(copy, target);
    rmSync(copy, { force: true });
  }
  return directory;
}

/** A controller of an installation; killed at the end, whatever happened. */
export class InstalledController implements AsyncDisposable {
  readonly stderr: string[] = [];
  readonly child: ChildProcess;
  readonly #installation: Installation;
  readonly #ended: Promise<unknown>;

  /** `directory` is the host's path of the directory with `config.yaml`. */
  constructor(installation: Installation, directory: string) {
    this.#installation = installation;
    const { root, program, path } = installation;
    const command = [program, "run", "-c", `${inside(installation, directory)}/config.yaml`];
    const [file = "", ...args] = root === undefined ? command : enter(root, directory, command);
    this.child = spawn(file, args, { stdio: ["ignore", "ignore", "pipe"], env: environment(root, path) });
    this.#ended = once(this.child, "close");
    if (this.child.stderr !== null)
      createInterface({ input: this.child.stderr }).on("line", (line) => this.stderr.push(line));
  }

  /** Waits for a line on stderr. */
  logged(text: string): Promise<true> {
    return eventually(() => {
      if (this.stderr.some((line) => line.includes(text))) return true;
      assert.equal(this.child.exitCode, null, `the controller ended: ${this.stderr.join("\n")}`);
      return undefined;
    }, text);
  }

  /** The controller's pid on this machine. */
  get pid(): number {
    const own = this.child.pid ?? 0;
    if (this.#installation.root === undefined) return own;
    return Number(readFileSync(`/proc/${own}/task/${own}/children`, "utf8").trim().split(" ")[0]);
  }

  /** Runs a command beside the controller and returns its standard output; it must succeed. */
  async run(command: readonly string[]): Promise<string> {
    const { root, path } = this.#installation;
    const enter = ["nsenter", "-t", String(this.pid), "--mount", "--pid", "--root", "--wd"];
    const [file = "", ...args] = root === undefined ? command : [...enter, ...command];
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], env: environment(root, path) });
    const said = { stdout: "", stderr: "" };
    child.stdout.on("data", (chunk: Buffer) => (said.stdout += chunk));
    child.stderr.on("data", (chunk: Buffer) => (said.stderr += chunk));
    const [code] = await once(child, "close");
    assert.equal(code, 0, `${command.join(" ")}: ${said.stderr}${said.stdout}\n${this.stderr.join("\n")}`);
    return said.stdout;
  }

  /** SIGTERM; resolves with the exit code when all processes have exited. */
  async stop(): Promise<number | null> {
    const pids = listDescendants(this.child.pid ?? 0);
    process.kill(this.pid, "SIGTERM");
    await this.#ended;
    for (const pid of pids) await untilGone(pid);
    return this.child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.#ended;
  }
}

/** The path inside the installation's root of a directory that it gets as /tmp. */
export function inside({ root }: Installation, directory: string): string {
  return root === undefined ? directory : IN_ROOT.directory;
}

/** The path of the worker inside the installation's root. */
export function workerOf({ root }: Installation): string {
  return root === undefined ? join(workerDirectory(), "processbin") : IN_ROOT.worker;
}

/** Directory of a program on this machine. */
export const OWN_NODE = dirname(process.execPath);
