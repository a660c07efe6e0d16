/**
 * The executable starts and serves in a slim image: a root file system of Debian's essential packages
 * (scripts/slimRoot.sh), as PID 1, without network and with nothing but the files of dist/. The library that the runtime
 * needs and the image lacks is found beside the executable, or where packages put it.
 */
import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, globSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { type TestContext, test } from "node:test";
import type { Status } from "../../src/admin/api.ts";
import { eventually, listDescendants, poolOf, untilGone } from "../support/controller.ts";

const ROOT = resolve("node_modules/.tools/slim-root");
const DIST = resolve("dist");
const UNSHARE = ["--mount", "--net", "--pid", "--fork", "--kill-child"];

/**
 * Runs inside new namespaces, so every mount ends with the last process: the slim root, read-only, with dist/ at
 * /opt/monoceros, a private directory at /tmp, and a network that is only loopback. Arguments: root, dist, the private
 * directory, then the command.
 */
const ENTER = `set -e
root=$1 dist=$2 tmp=$3
shift 3
ip link set lo up 2>/dev/null || node_modules/.tools/busybox ifconfig lo up
mount --bind "$root" "$root"
mount --bind "$dist" "$root/opt/monoceros"
mount --bind "$tmp" "$root/tmp"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
exec chroot "$root" env -i PATH=/usr/bin:/bin HOME=/tmp "$@"`;

/** The command that runs `command` in the slim root. */
function inSlimRoot(tmp: string, command: readonly string[]): string[] {
  return [...UNSHARE, "sh", "-c", ENTER, "sh", ROOT, DIST, tmp, ...command];
}

function run(tmp: string, command: readonly string[]): { code: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync("unshare", inSlimRoot(tmp, command), { encoding: "utf8" });
  return { code: status, stdout, stderr };
}

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return "only root can make a root file system and enter it";
  if (!existsSync(ROOT)) return "node_modules/.tools/slim-root is missing, see scripts/slimRoot.sh";
  const { status, stderr } = spawnSync("unshare", [...UNSHARE, "mount", "-t", "proc", "proc", "/proc"], {
    encoding: "utf8",
  });
  return status === 0 ? undefined : `namespaces are not permitted here: ${stderr.trim()}`;
}

const REASON = whyNot();

/** A test that needs the slim root; if it is absent, the test is skipped and says so. */
function slimTest(name: string, act: (context: TestContext) => Promise<void>): void {
  test(name, async (context) => {
    if (REASON === undefined) return act(context);
    process.stderr.write(`SKIPPED, the start in a slim image is not tested: ${REASON}\n`);
    context.skip(REASON);
  });
}

/** A controller that runs as PID 1 in the slim root; killed with its namespaces at the end, whatever happened. */
class SlimController implements AsyncDisposable {
  readonly stderr: string[] = [];
  readonly child: ChildProcessByStdio<null, null, Readable>;
  readonly #ended: Promise<unknown>;

  constructor(tmp: string, config: string) {
    writeFileSync(join(tmp, "config.yaml"), config);
    const command = ["/opt/monoceros/monoceros", "run", "-c", "/tmp/config.yaml"];
    this.child = spawn("unshare", inSlimRoot(tmp, command), { stdio: ["ignore", "ignore", "pipe"] });
    this.#ended = once(this.child, "close");
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

  /** The controller's pid as this process sees it. */
  get pid(): number {
    const [child] = readFileSync(`/proc/${this.child.pid}/task/${this.child.pid}/children`, "utf8").trim().split(" ");
    return Number(child);
  }

  /** Runs a command beside the controller, in its root and its namespaces. */
  exec(command: readonly string[]): string {
    const namespaces = ["--mount", "--net", "--pid", "--root", "--wd"];
    const { status, stdout, stderr } = spawnSync("nsenter", ["-t", String(this.pid), ...namespaces, ...command], {
      encoding: "utf8",
      env: { PATH: "/usr/bin:/bin", HOME: "/tmp" },
    });
    assert.equal(status, 0, `${command.join(" ")}: ${stderr}`);
    return stdout;
  }

  /** SIGTERM, then the exit code. */
  async stop(): Promise<number | null> {
    process.kill(this.pid, "SIGTERM");
    await this.#ended;
    return this.child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.#ended;
  }
}

const CONFIG = `admin:
  port: 9000
  address: 127.0.0.1
  socket: /tmp/control.sock
supervisor:
  workers:
${poolOf({
  name: "web",
  replicas: 2,
  exec: "/opt/monoceros/processbin",
  server: {
    port_arg: { name: "--port", start_port: 9090 },
    listener_port: 10_000,
    listener_address: "127.0.0.1",
    health_check_path: "/healthz",
  },
})}
`;

slimTest("the slim root lacks libatomic, and the executable alone does not start there", async () => {
  assert.deepEqual(globSync(`${ROOT}/usr/lib/**/libatomic*`), []);
  await using tmp = await mkdtempDisposable(join(tmpdir(), "m-"));
  const { code, stderr } = run(tmp.path, ["sh", "-c", "cp /opt/monoceros/monoceros /tmp/ && /tmp/monoceros version"]);
  assert.equal(code, 127, stderr);
  assert.match(stderr, /libatomic\.so\.1/u);
});

slimTest("the executable starts in a slim root with libatomic beside it or in ../lib/monoceros", async () => {
  await using tmp = await mkdtempDisposable(join(tmpdir(), "m-"));
  const beside = run(tmp.path, ["/opt/monoceros/monoceros", "version"]);
  assert.equal(beside.code, 0, beside.stderr);
  assert.match(beside.stdout, /^monoceros \d/u);

  const install = `mkdir -p /tmp/bin /tmp/lib/monoceros
    cp /opt/monoceros/monoceros /tmp/bin/
    cp /opt/monoceros/libatomic.so.1 /tmp/lib/monoceros/
    cd / && PATH=/tmp/bin:$PATH monoceros version`;
  const installed = run(tmp.path, ["sh", "-c", install]);
  assert.equal(installed.code, 0, installed.stderr);
  assert.equal(installed.stdout, beside.stdout);
});

slimTest("validate accepts a proxied pool in a slim root", async () => {
  await using tmp = await mkdtempDisposable(join(tmpdir(), "m-"));
  writeFileSync(join(tmp.path, "config.yaml"), CONFIG);
  const { code, stderr } = run(tmp.path, ["/opt/monoceros/monoceros", "validate", "-c", "/tmp/config.yaml"]);
  assert.equal(code, 0, stderr);
});

slimTest("a proxied pool serves through Envoy in a slim root without network, and stops gracefully", async () => {
  await using tmp = await mkdtempDisposable(join(tmpdir(), "m-"));
  await using controller = new SlimController(tmp.path, CONFIG);
  await controller.logged("controller is ready");

  const status = JSON.parse(
    controller.exec(["/opt/monoceros/monoceros", "status", "--json", "-c", "/tmp/config.yaml"]),
  ) as Status;
  assert.equal(status.pid, 1);
  // The image has no HTTP client, but bash can open a connection.
  const answer = controller.exec([
    "bash",
    "-c",
    'exec 3<>/dev/tcp/127.0.0.1/10000; printf "GET / HTTP/1.1\\r\\nHost: m\\r\\nConnection: close\\r\\n\\r\\n" >&3; cat <&3',
  ]);
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/u);
  assert.match(answer, /^x-worker-id: web-\d\r$/mu);
  assert.match(answer, /hello from processbin/u);

  const pids = listDescendants(controller.child.pid ?? 0);
  assert.ok(pids.length >= 4, "a controller, two workers and Envoy run");
  assert.equal(await controller.stop(), 0, controller.stderr.join("\n"));
  for (const pid of pids) await untilGone(pid);
});
