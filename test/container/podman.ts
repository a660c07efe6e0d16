/**
 * Containers of the product, run by podman and runc with the restrictions of a strict platform: a read-only root file
 * system, no capabilities, no new privileges, a user without an entry in passwd, no network. Images and state are in a
 * private directory, which image.ts creates before the tests of this folder and removes after them.
 */
import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmodSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { type TestContext, test } from "node:test";
import type { Status, WorkerStatus } from "../../src/admin/api.ts";
import { eventually, isAlive, listDescendants, PROCESSBIN } from "../support/controller.ts";
import type { LoadOptions } from "../support/load.ts";
import type { LoadReport } from "../support/loadReport.ts";
import { readProc } from "../support/watch.ts";
import { ADMIN } from "./pools.ts";

export const STORE = resolve("node_modules/.tools/podman");
export const IMAGE = "localhost/monoceros:test";
export const SLIM_IMAGE = "localhost/monoceros-slim:test";
/** Parent control group of the containers; unique to this checkout. */
export const CGROUP_PARENT = `/monoceros-test-${createHash("sha256").update(STORE).digest("hex").slice(0, 8)}`;
/** A user without an entry in the image's passwd. */
export const USER = 10_001;

/** Time limit for a condition. */
const PATIENCE_MS = 40_000;
/** Upper bound for limits of open files and processes, which podman applies to itself too. */
const MAX_LIMIT = 32_768;

const IS_ROOT = process.getuid?.() === 0;
const STORAGE = ["root", "run", "tmp"].flatMap((part, index) => [
  ["--root", "--runroot", "--tmpdir"][index] ?? "",
  `${STORE}/${part}`,
]);
// runc, because crun does not support machines that mount control groups of both versions.
const PODMAN = [
  ...STORAGE,
  ...["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc"],
];

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs podman on the private storage and waits for its exit. */
export async function podman(...args: readonly string[]): Promise<Outcome> {
  return run("podman", [...PODMAN, ...args]);
}

async function run(file: string, args: readonly string[]): Promise<Outcome> {
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (chunk: string) => {
      text[name] += chunk;
    });
  }
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...text };
}

/** The reason why containers cannot run on this machine; undefined if they can. */
export function whyNoContainers(): string | undefined {
  for (const tool of ["podman", "runc", "conmon"]) {
    if (spawnSync(tool, ["--version"]).error !== undefined) return `${tool} is missing, see scripts/containerTools.sh`;
  }
  const { status, stderr } = spawnSync("podman", [...PODMAN, "info"], { encoding: "utf8" });
  return status === 0 ? undefined : `podman does not work on this machine: ${stderr.trim()}`;
}

/** The reason why containers cannot have memory, CPU and process limits on this machine. */
function whyNoLimits(): string | undefined {
  const isVersion2 = existsSync("/sys/fs/cgroup/cgroup.controllers");
  if (!IS_ROOT && !isVersion2) return "only root can limit containers with control groups of version 1";
  const has = isVersion2
    ? readFileSync("/sys/fs/cgroup/cgroup.controllers", "utf8").split(/\s+/u)
    : globSync("/sys/fs/cgroup/*").map((path) => path.slice("/sys/fs/cgroup/".length));
  const missing = ["memory", "cpu", "pids"].filter((controller) => !has.includes(controller));
  return missing.length === 0 ? undefined : `no control group limits ${missing.join(", ")}`;
}

function whyNot(): string | undefined {
  const image = spawnSync("podman", [...PODMAN, "image", "exists", IMAGE]);
  return whyNoContainers() ?? (image.status === 0 ? undefined : "the image could not be built");
}

const REASON = whyNot();
const LIMITS_REASON = REASON ?? whyNoLimits();

interface TestOptions {
  readonly needsLimits?: boolean;
}

/** A test that needs containers. If they cannot run, it is skipped with the reason. */
export function containerTest(name: string, act: (context: TestContext) => Promise<void>): void;
export function containerTest(name: string, options: TestOptions, act: (context: TestContext) => Promise<void>): void;
export function containerTest(
  name: string,
  ...rest:
    | [(context: TestContext) => Promise<void>]
    | [options: TestOptions, act: (context: TestContext) => Promise<void>]
): void {
  const [options, act] = rest.length === 1 ? [{}, rest[0]] : rest;
  const reason = options.needsLimits ? LIMITS_REASON : REASON;
  test(name, async (context) => {
    if (reason === undefined) return act(context);
    process.stderr.write(`SKIPPED, container test: ${name}: ${reason}\n`);
    context.skip(reason);
  });
}

export interface ContainerOptions {
  /** The configuration file. */
  readonly config: string;
  /** Flags of `podman run`, such as limits. */
  readonly flags?: readonly string[];
  /** If false, the container has no writable directory. */
  readonly isWritable?: boolean;
  /** Executable files that replace those of the image, by path. */
  readonly files?: Readonly<Record<string, string>>;
}

/** One container. Disposing of it removes all of its processes and its control group. */
export class Container implements AsyncDisposable {
  readonly name: string;
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  /** Lines of stdout and stderr so far. */
  readonly lines: string[] = [];
  readonly #directory: string;
  readonly #ended: Promise<number | null>;
  readonly #waiting = new Set<() => void>();
  #pid: number | undefined;

  constructor(options: ContainerOptions) {
    this.#directory = mkdtempSync(join(tmpdir(), "m-"));
    // mkdtemp creates a private directory, but the container runs as another user.
    chmodSync(this.#directory, 0o755);
    this.name = `m-${this.#directory.slice(-6)}`;
    this.configure(options.config);
    // As in a pod: a directory that every user may write to (emptyDir), and one in memory.
    const shared = join(this.#directory, "run");
    mkdirSync(shared);
    chmodSync(shared, 0o777);
    const spaces = ["-v", `${shared}:/run`, "--tmpfs", "/tmp:rw,size=16m"];
    const flags = [
      ...["--name", this.name, "--rm", "--pull", "never", "--log-driver", "none", "--network", "none"],
      ...["--cgroup-parent", CGROUP_PARENT],
      ...["--user", String(USER), "--passwd=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
      ...["--read-only", "--read-only-tmpfs=false", ...((options.isWritable ?? true) ? spaces : [])],
      ...ownLimit("nofile", "Max open files"),
      ...ownLimit("nproc", "Max processes"),
      ...["-v", `${this.#directory}:/cfg:ro`, "-v", `${resolve("test/container/worker.pl")}:/opt/worker.pl:ro`],
      ...["-v", `${PROCESSBIN}:/usr/local/bin/processbin:ro`],
      ...Object.entries(options.files ?? {}).flatMap(([path, text]) => ["-v", `${this.#write(path, text)}:${path}:ro`]),
      ...(options.flags ?? []),
    ];
    const command = ["monoceros", "run", "-c", "/cfg/config.yaml"];
    this.child = spawn("podman", [...PODMAN, "run", ...flags, IMAGE, ...command], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#ended = once(this.child, "close").then(([code]) => {
      this.#wake();
      return code as number | null;
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      createInterface({ input: stream }).on("line", (line) => {
        this.lines.push(line);
        this.#wake();
      });
    }
  }

  /** Starts a container and waits until its controller is ready. */
  static async ready(options: ContainerOptions): Promise<Container> {
    const container = new Container(options);
    try {
      await container.logged("controller is ready");
      return container;
    } catch (error) {
      await container[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Runs a container that is expected to exit by itself, and returns its exit code and output. */
  static async run(options: ContainerOptions): Promise<{ code: number | null; text: string }> {
    await using container = new Container(options);
    return { code: await container.ended(), text: container.text };
  }

  get text(): string {
    return this.lines.join("\n");
  }

  /** Replaces the configuration file. The controller is not notified. */
  configure(config: string): void {
    this.#write("config.yaml", config);
  }

  /** Waits for a line that contains all of these texts. */
  async logged(...texts: readonly string[]): Promise<string> {
    const find = () => this.lines.find((line) => texts.every((text) => line.includes(text)));
    const what = texts.join(" and ");
    await this.until(() => find() !== undefined || this.child.exitCode !== null, what);
    const found = find();
    assert.ok(found !== undefined, `the container exited with ${this.child.exitCode} before ${what}: ${this.text}`);
    return found;
  }

  /** Waits for a condition, which is checked after each line and at the container's exit. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const deadline = AbortSignal.timeout(PATIENCE_MS);
    const wake = () => this.#wake();
    deadline.addEventListener("abort", wake);
    while (!condition()) {
      assert.ok(!deadline.aborted, `not within ${PATIENCE_MS} ms: ${what}: ${this.text}`);
      await new Promise<void>((woken) => {
        this.#waiting.add(woken);
      });
    }
    deadline.removeEventListener("abort", wake);
  }

  /** The host's pid of the container's PID 1. */
  async pid(): Promise<number> {
    this.#pid ??= await eventually(async () => {
      const { stdout } = await podman("inspect", "-f", "{{.State.Pid}}", this.name);
      return Number(stdout.trim()) || undefined;
    }, `container ${this.name} runs`);
    return this.#pid;
  }

  /** Waits for a process of the container that matches, and returns its pid on the host. */
  async process(matches: (status: string) => boolean, what: string): Promise<number> {
    const root = await this.pid();
    return eventually(() => listDescendants(root).find((pid) => matches(readProc(pid, "status"))), what);
  }

  /** Runs a command in the container, as `kubectl exec` does. */
  exec(...command: readonly string[]): Promise<Outcome> {
    return podman("exec", this.name, ...command);
  }

  /** Runs a command in the container and asserts exit code 0. */
  async execOk(...command: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await this.exec(...command);
    assert.equal(code, 0, `${command.join(" ")}: ${stdout}${stderr}`);
    return stdout;
  }

  async status(): Promise<Status> {
    return JSON.parse((await this.ask(ADMIN, "/v1/status")).body) as Status;
  }

  async worker(id: string): Promise<WorkerStatus> {
    const found = (await this.status()).pools.flatMap((pool) => pool.workers).find((worker) => worker.id === id);
    assert.ok(found !== undefined, `there is no worker ${id}`);
    return found;
  }

  /** Waits until the status satisfies a condition. */
  async statusWhere(matches: (status: Status) => boolean, what: string): Promise<Status> {
    const found = async () => {
      assert.equal(this.child.exitCode, null, `the container exited before ${what}: ${this.text}`);
      const status = await this.status();
      return matches(status) ? status : undefined;
    };
    return eventually(found, what, 15_000);
  }

  /** Waits until every worker is ready. */
  allReady(): Promise<Status> {
    const isReady = ({ phase }: WorkerStatus) => phase === "ready";
    return this.statusWhere(
      ({ pools }) => pools.every(({ workers }) => workers.every(isReady)),
      "all workers are ready",
    );
  }

  /** Sends a request in the container's network: GET, or POST if `sent` is given. */
  async ask(port: number, path: string, sent?: unknown): Promise<{ status: number; body: string }> {
    const more = { headers: { "content-type": "application/json" }, method: "POST", body: JSON.stringify(sent) };
    const request = `${JSON.stringify(`http://127.0.0.1:${port}${path}`)}, ${JSON.stringify(sent === undefined ? {} : more)}`;
    const script = `const r = await fetch(${request});
      console.log(JSON.stringify({ status: r.status, body: await r.text() }));`;
    const { code, stdout, stderr } = await run(...(await this.#inNetwork("--input-type=module", "-e", script)));
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as { status: number; body: string };
  }

  /** Runs a load in the container's network while `act` runs, or until `maxRequests` have been sent. */
  async underLoad(options: LoadOptions, act: () => Promise<void> = async () => {}): Promise<LoadReport> {
    const [file, args] = await this.#inNetwork("test/support/load.ts", JSON.stringify(options));
    const child = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"] });
    const closed = once(child, "close");
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    try {
      await act();
    } finally {
      if (options.maxRequests === undefined) child.kill("SIGTERM");
      await closed;
    }
    return JSON.parse(text) as LoadReport;
  }

  /** The path of a file of the container's control group, given its names in versions 1 and 2. */
  async cgroupFile(controller: string, names: readonly [v1: string, v2: string]): Promise<string> {
    const lines = readFileSync(`/proc/${await this.pid()}/cgroup`, "utf8").split("\n");
    const group = (found: (controllers: string) => boolean) =>
      lines.map((line) => line.split(":")).find(([, controllers = ""]) => found(controllers))?.[2];
    const first = group((controllers) => controllers.split(",").includes(controller));
    return first === undefined
      ? `/sys/fs/cgroup${group((controllers) => controllers === "")}/${names[1]}`
      : `/sys/fs/cgroup/${controller}${first}/${names[0]}`;
  }

  /** Sends a signal to PID 1. */
  async signal(name: NodeJS.Signals): Promise<void> {
    const { code, stderr } = await podman("kill", "--signal", name, this.name);
    assert.equal(code, 0, stderr);
  }

  /** Waits for the container's exit and returns its exit code. */
  async ended(): Promise<number | null> {
    await this.until(() => this.child.exitCode !== null, "the container exits");
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const pids = this.#pid === undefined ? [] : [this.#pid, ...listDescendants(this.#pid)];
    await podman("rm", "--force", "--ignore", "--time", "0", this.name);
    await this.#ended;
    // Files written by another user of a user namespace can be removed only in that namespace.
    if (!IS_ROOT) await podman("unshare", "rm", "-rf", join(this.#directory, "run"));
    rmSync(this.#directory, { recursive: true, force: true });
    assert.deepEqual(pids.filter(isAlive), [], "processes outlive their container");
  }

  #write(path: string, text: string): string {
    const file = join(this.#directory, path.replaceAll("/", "_"));
    writeFileSync(file, text);
    chmodSync(file, 0o755);
    return file;
  }

  /** The command that runs Node.js in the network of the container. */
  async #inNetwork(...args: readonly string[]): Promise<[file: string, args: string[]]> {
    const namespaces = IS_ROOT ? ["--net"] : ["--user", "--preserve-credentials", "--net"];
    const target = String(await this.pid());
    return ["nsenter", ["--target", target, ...namespaces, process.execPath, "--no-warnings", ...args]];
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

/** The flag for this user's own limit, because podman's default may exceed it. */
function ownLimit(name: string, title: string): string[] {
  const limits = readFileSync("/proc/self/limits", "utf8");
  const hard = new RegExp(`^${title}\\s+\\S+\\s+(\\d+)`, "mu").exec(limits)?.[1];
  const limit = Math.min(Number(hard ?? MAX_LIMIT), MAX_LIMIT);
  return ["--ulimit", `${name}=${limit}:${limit}`];
}
