/**
 * Control groups of version 2, in a virtual machine with Debian's kernel on an emulated processor. It needs no support from
 * the host's kernel and is about ten times slower than the host. The virtual machine runs guest.sh once, which writes a
 * report, and the tests evaluate the report.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { join, resolve } from "node:path";
import { before, describe, test } from "node:test";
import type { Status } from "../../src/admin/api.ts";
import { configOf, proxiedPool } from "../container/pools.ts";
import { poolOf } from "../support/controller.ts";

const TOOLS = resolve("node_modules/.tools");
const KERNEL = join(TOOLS, "cgroup2");
const SLIM_ROOT = join(TOOLS, "slim-root");
const BUSYBOX = join(TOOLS, "busybox");
/** Time limit. On two idle cores the run takes about two minutes. */
const LIMIT_MS = 600_000;

/** Workers on the ports 9300, 9301 and so on. */
function pool(replicas: number): string {
  return poolOf({
    name: "web",
    replicas,
    exec: "perl",
    args: ["/opt/worker.pl"],
    env: { PORT: "930{{.Slot}}" },
  });
}

const CASES: Readonly<Record<string, string>> = {
  proxy: configOf([proxiedPool(1, { replicas: "auto", limits: { memory: "300MiB" } })]),
  large: configOf([pool(3)]),
  small: configOf([pool(10)]),
  group: configOf([pool(3)]),
  pids: configOf([proxiedPool(4)]),
};

function whyNot(): string | undefined {
  if (spawnSync("qemu-system-x86_64", ["--version"]).status !== 0) return "qemu-system-x86_64 is missing";
  const missing = [KERNEL, SLIM_ROOT, BUSYBOX].filter((path) => !existsSync(path));
  return missing.length === 0 ? undefined : `${missing.join(", ")} is missing, see scripts/cgroup2Tools.sh`;
}

/** Lines of the report by case and key. */
type Report = ReadonlyMap<string, readonly string[]>;

/** Creates the disk and the initial file system in `directory`, and runs the virtual machine until it powers off. */
async function runGuest(directory: string): Promise<Report> {
  const root = join(directory, "root");
  must("cp", ["-al", SLIM_ROOT, root]);
  for (const name of ["test", "opt", "sys", "run"]) mkdirSync(join(root, name), { recursive: true });
  mkdirSync(join(root, "usr/local/bin"), { recursive: true });
  for (const name of ["monoceros", "envoy", "libatomic.so.1"]) {
    must("cp", ["-l", resolve("dist", name), join(root, "usr/local/bin", name)]);
  }
  copyFileSync(BUSYBOX, join(root, "usr/local/bin/busybox"));
  copyFileSync("test/container/worker.pl", join(root, "opt/worker.pl"));
  copyFileSync("test/cgroup2/ask.pl", join(root, "opt/ask.pl"));
  copyFileSync("test/cgroup2/guest.sh", join(root, "test/guest.sh"));
  for (const [name, config] of Object.entries(CASES)) writeFileSync(join(root, `test/${name}.yaml`), config);
  const disk = join(directory, "disk");
  must("mke2fs", ["-q", "-t", "ext4", "-O", "^has_journal", "-d", root, disk, "1G"]);
  rmSync(root, { recursive: true });

  const first = join(directory, "first");
  for (const name of ["bin", "dev", "proc", "root"]) mkdirSync(join(first, name), { recursive: true });
  copyFileSync(BUSYBOX, join(first, "bin/busybox"));
  must("cp", ["-r", KERNEL, join(first, "lib")]);
  rmSync(join(first, "lib/vmlinuz"));
  copyFileSync("test/cgroup2/initrd.sh", join(first, "init"));
  must("chmod", ["755", join(first, "init"), join(first, "bin/busybox")]);
  const initrd = join(directory, "initrd");
  must("sh", ["-c", 'cd "$1" && find . | cpio --quiet -o -H newc >"$2"', "sh", first, initrd]);

  const consoleLog = join(directory, "console");
  const child = spawn(
    "qemu-system-x86_64",
    [
      ...["-accel", "tcg,thread=multi,tb-size=512", "-machine", "q35", "-cpu", "max", "-smp", "2", "-m", "2048"],
      ...["-nodefaults", "-no-reboot", "-display", "none", "-serial", `file:${consoleLog}`, "-serial", "stdio"],
      ...["-kernel", join(KERNEL, "vmlinuz"), "-initrd", initrd],
      ...["-append", "console=ttyS0 quiet panic=-1 mitigations=off"],
      ...["-drive", `file=${disk},format=raw,if=virtio,cache=unsafe`],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const last = setTimeout(() => child.kill("SIGKILL"), LIMIT_MS);
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
  });
  await once(child, "close");
  clearTimeout(last);
  assert.match(text, /^end code 0\r?$/mu, `guest.sh did not complete: ${text}\n${readConsole(consoleLog)}`);
  const lines = text.split("\n").map((line) => /^(\w+ \S+) ?(.*?)\r?$/u.exec(line));
  return Map.groupBy(
    lines.flatMap((match) => (match === null ? [] : [{ key: match[1] ?? "", value: match[2] ?? "" }])),
    ({ key }) => key,
  )
    .entries()
    .reduce(
      (report, [key, found]) =>
        report.set(
          key,
          found.map(({ value }) => value),
        ),
      new Map<string, string[]>(),
    );
}

function readConsole(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8").slice(0, 4000) : "";
}

function must(file: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(file, args, { encoding: "utf8" });
  assert.equal(status, 0, `${file} ${args.join(" ")}: ${stderr}`);
}

const REASON = whyNot();
if (REASON !== undefined) process.stderr.write(`\nSKIPPED, control groups of version 2 are not tested: ${REASON}\n\n`);

describe("control groups of version 2", REASON === undefined ? {} : { skip: REASON }, () => {
  let report: Report;

  before(async () => {
    // In the same file system as the tools, because hard links need that.
    await using directory = await mkdtempDisposable(join(TOOLS, ".guest-"));
    report = await runGuest(directory.path);
  });

  const lines = (name: string) => report.get(name) ?? [];
  const text = (name: string) => lines(name).join("\n");
  const status = (name: string) => JSON.parse(text(name)) as Status;
  const count = (name: string, key: string) => Number(new RegExp(`\\b${key} (\\d+)`, "u").exec(text(name))?.[1]);
  const log = (name: string) => text(`${name} log`);
  const workers = (name: string) => status(name).pools.find((pool) => pool.name === "web")?.workers ?? [];

  test("proxy mode serves as PID 1 within memory, CPU and process limits and stops gracefully", () => {
    assert.equal(text("proxy answer").trim(), "hello", log("proxy"));
    assert.equal(status("proxy status").pid, 1);
    assert.equal(text("proxy code"), "0");
    assert.equal(count("proxy memory.events", "oom_kill"), 0);
    const [current = 0, peak = 0] = ["memory.current", "memory.peak"].map((file) => Number(text(`proxy ${file}`)));
    assert.ok(current > 0 && current <= peak && peak < 512 * 2 ** 20, `${current} of ${peak}`);
    assert.ok(Number(text("proxy pids.current")) <= 64, text("proxy pids.current"));
  });

  test("replicas: auto uses cpu.max, and the memory warning uses memory.max", () => {
    assert.equal(workers("proxy status").length, 1);
    assert.match(log("proxy"), /more than the 512 MiB of this control group/u);
  });

  test("a reload applies a changed cpu.max to replicas: auto", () => {
    assert.equal(workers("proxy resized").length, 2);
  });

  test("with memory.oom.group 0 the kernel kills only a large worker", () => {
    assert.ok(count("large memory.events", "oom_kill") >= 1, text("large memory.events"));
    assert.ok(
      workers("large status").every(({ phase }) => phase === "ready"),
      log("large"),
    );
    assert.equal(text("large code"), "0");
  });

  test("an OOM kill is reported as such with the memory limit", () => {
    assert.match(log("large"), /"web-0.*out of memory.*256 MiB/u);
  });

  test("with memory.oom.group 0 the kernel kills small workers before the controller", () => {
    assert.ok(count("small memory.events", "oom_kill") >= 1, text("small memory.events"));
    assert.equal(text("small code"), "0", log("small"));
  });

  test("with memory.oom.group 1 the kernel kills the whole container", () => {
    assert.equal(text("group code"), "137", log("group"));
    assert.equal(count("group memory.events", "oom_group_kill"), 1);
  });

  test("a start with a low pids.max fails with an error that names it, or backs off", () => {
    assert.ok(count("pids pids.events", "max") > 0, "the limit was not reached");
    assert.match(text("pids code"), /^(?:0|1|78)$/u);
    assert.match(log("pids"), /pids\.max|backing_off/u);
  });
});
