/** Log files of pools with real workers: no line is lost, cut or reordered, whatever happens to the file. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gunzipSync } from "node:zlib";
import { ControllerUnderTest, eventually, MONOCEROS } from "../support/controller.ts";
import { eventsOf, happened, said, shellPool } from "../support/watch.ts";

class Directory implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "monoceros-log-files-"));
  readonly log = join(this.path, "web.log");

  /** Contents of all files, of which gzip files are decompressed. */
  contents(): string[] {
    return readdirSync(this.path).map((name) => {
      const bytes = readFileSync(join(this.path, name));
      return (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
    });
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

const flood = (lines: number) =>
  `awk -v pid=$$ 'BEGIN { for (i = 0; i < ${lines}; i++) printf "{\\"pid\\":%d,\\"n\\":%d,\\"text\\":\\"the quick brown fox jumps over the lazy dog\\"}\\n", pid, i }'`;

interface Numbered {
  readonly pid: number;
  readonly n: number;
}

/** The numbered records in these lines; every line must be JSON. */
function numbered(lines: readonly string[]): Numbered[] {
  return lines.map((line) => JSON.parse(line) as Numbered).filter(({ n }) => n !== undefined);
}

/** Number of records of each process, after checking that these files contain them once, in order and without a gap. */
function countOf(files: readonly string[]): ReadonlyMap<number, number> {
  const segments = new Map<number, [first: number, end: number][]>();
  for (const text of files) {
    assert.ok(text === "" || text.endsWith("\n"), "a file ends with a whole record");
    const next = new Map<number, [number, number]>();
    for (const { pid, n } of numbered(text.split("\n").slice(0, -1))) {
      const segment = next.get(pid) ?? [n, n];
      assert.equal(n, segment[1], `records of ${pid} are in order`);
      next.set(pid, [segment[0], n + 1]);
    }
    for (const [pid, segment] of next) segments.set(pid, [...(segments.get(pid) ?? []), segment]);
  }
  const counts = new Map<number, number>();
  for (const [pid, parts] of segments) {
    let end = 0;
    for (const [first, last] of parts.toSorted((a, b) => a[0] - b[0])) {
      assert.equal(first, end, `records of ${pid} are in the files exactly once`);
      end = last;
    }
    counts.set(pid, end);
  }
  return counts;
}

/** The result of `act`; undefined if a file is missing, because a rotation has moved it first. */
function unlessMissing<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ENOENT");
    return undefined;
  }
}

async function metric(controller: ControllerUnderTest, name: string): Promise<number> {
  const { body } = await controller.call("GET", "/metrics");
  return Number(new RegExp(`^monoceros_log_file_${name}\\{pool="web"\\} (\\S+)$`, "mu").exec(body)?.[1]);
}

test("a flood is in the files exactly once and in order across rotations, reopening, compression and kill -9", async () => {
  using directory = new Directory();
  const lines = 15_000;
  const script = `${flood(lines)}; echo "{\\"done\\":$$}"; exec sleep 1000`;
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", script, {
      replicas: 3,
      logs: { file: { path: directory.log, max_size: "512KiB", keep: 100, compress: "gzip" } },
    }),
  });
  const killed = await controller.pidOf("web-2");
  await controller.until(() => controller.stdout.length > 1000, "the flood has begun");
  process.kill(killed, "SIGKILL");
  for (let move = 0; move < 3; move++) {
    const before = controller.stdout.length;
    await eventually(() => existsSync(directory.log) || undefined, "the log file exists");
    unlessMissing(() => renameSync(directory.log, join(directory.path, `moved-${move}`)));
    const output = execFileSync(MONOCEROS, ["logs", "reopen", "--socket", controller.socket], { encoding: "utf8" });
    assert.equal(output, `reopened ${directory.log} of pool "web"\n`);
    assert.ok(existsSync(directory.log));
    await controller.until(
      () => controller.stdout.length > before + 4000 || controller.stdout.length > lines * 3,
      "more lines",
    );
  }
  await happened(controller, "spawned", ({ slot, incarnation }) => slot === 2 && incarnation === 2);
  const pids = Object.values(await controller.pids());
  const done = new Set<number>();
  let seen = 0;
  await controller.until(() => {
    for (; seen < controller.stdout.length; seen++) {
      const pid = /"done":(\d+)/u.exec(controller.stdout[seen] ?? "")?.[1];
      if (pid !== undefined) done.add(Number(pid));
    }
    return pids.every((pid) => done.has(pid));
  }, "all workers have written their lines");
  const isCompressed = () => !readdirSync(directory.path).some((name) => /\.(?:\d+|tmp)$/u.test(name));
  await eventually(() => isCompressed() || undefined, "all rotated files are compressed");
  assert.ok(readdirSync(directory.path).some((name) => /^web\.log\.\d+\.gz$/u.test(name)));
  assert.equal((await controller.stop()).code, 0);

  const files = directory.contents();
  for (const text of files) assert.ok(text.length <= 512 * 1024, `${text.length} bytes`);
  const counts = countOf(files);
  assert.ok((counts.get(killed) ?? 0) <= lines);
  assert.deepEqual(
    [...counts].filter(([pid]) => pid !== killed).map(([, count]) => count),
    [lines, lines, lines],
  );
  // The file and stdout have received the same records.
  assert.deepEqual(files.join("").split("\n").slice(0, -1).toSorted(), controller.stdout.toSorted());
});

/** Limits the size of files that a process may write: the same partial writes and errors as on a full disk. */
function limitFileSize(pid: number, bytes: number | "unlimited"): void {
  execFileSync("prlimit", ["--pid", String(pid), `--fsize=${bytes}:unlimited`]);
}

test("workers wait for a file that cannot be written with on_error block, and no line is lost", async () => {
  using directory = new Directory();
  const lines = 30_000;
  using gate = new Directory();
  const go = join(gate.path, "go");
  execFileSync("mkfifo", [go]);
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `read -r word < ${go}; ${flood(lines)}; echo done; exec sleep 1000`, {
      logs: { file: { path: directory.log, max_size: "unlimited", on_error: "block", only: true } },
    }),
  });
  limitFileSize(controller.pid, 100_001);
  writeFileSync(go, "go\n");
  const failed = await happened(controller, "log_file_failed");
  assert.deepEqual(
    [failed.code, failed.reason],
    ["LOG_FILE_FAILED", `"${directory.log}": EFBIG; workers that write wait`],
  );
  assert.equal(await metric(controller, "failing"), 1);
  assert.equal(statSync(directory.log).size, 100_001);
  limitFileSize(controller.pid, "unlimited");
  const recovered = await happened(controller, "log_file_recovered");
  assert.equal(recovered.reason, `"${directory.log}": no line is lost`);
  await eventually(() => readFileSync(directory.log, "utf8").includes('"done"') || undefined, "all lines are written");
  assert.equal(await metric(controller, "failing"), 0);
  assert.ok((await metric(controller, "errors_total")) > 0);
  assert.deepEqual([...countOf([readFileSync(directory.log, "utf8")]).values()], [lines]);
  assert.deepEqual(controller.stdout, [], "no line goes to stdout");
});

test("a file on a full disk can be moved away by logs reopen without cutting a record", async () => {
  using directory = new Directory();
  const lines = 5000;
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `${flood(lines)}; echo done; exec sleep 1000`, {
      startup_wait_time: "0s",
      logs: { file: { path: directory.log, max_size: "unlimited", on_error: "block" } },
    }),
    wrapper: ["prlimit", "--fsize=100001:unlimited"],
  });
  await happened(controller, "log_file_failed");
  const moved = join(directory.path, "moved");
  const move = async (to: string) => {
    renameSync(directory.log, to);
    const { status, body } = await controller.call("POST", "/v1/logs/reopen");
    assert.deepEqual([status, JSON.parse(body)], [200, { files: [{ pool: "web", path: directory.log }] }]);
  };
  let moves = 0;
  const isFull = async () => (await metric(controller, "failing")) === 1;
  const isComplete = () => directory.contents().some((text) => text.includes('"done"'));
  while (!isComplete()) {
    await eventually(
      async () => isComplete() || (await isFull()) || undefined,
      "all lines are written, or the next file is full",
    );
    if (!isComplete()) await move(`${moved}-${moves++}`);
  }
  assert.ok(moves > 1);
  assert.deepEqual([...countOf(directory.contents()).values()], [lines]);
});

test("a full disk delays lines until space is free, and no line is lost", {
  skip: process.getuid?.() !== 0,
}, async () => {
  using mount = new Directory();
  const lines = 8000;
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", `${flood(lines)}; echo done; exec sleep 1000`, {
      logs: { file: { path: mount.log, max_size: "64KiB", keep: 99, on_error: "block" } },
    }),
    wrapper: ["unshare", "--mount", "sh", "-c", `mount -t tmpfs -o size=400k none ${mount.path} && exec "$@"`, "sh"],
  });
  // The file system exists only in the controller's mount namespace.
  const inside = `/proc/${controller.pid}/root${mount.path}`;
  const taken: string[] = [];
  // A rotation may have moved a file.
  const current = () => unlessMissing(() => readFileSync(join(inside, "web.log"), "utf8")) ?? "";
  const isComplete = () => current().includes('"done"');
  const isFull = async () => (await metric(controller, "failing")) === 1;
  const failed = await happened(controller, "log_file_failed");
  assert.match(failed.reason, /ENOSPC/u);
  for (;;) {
    const state = await eventually(
      async () => (isComplete() ? "complete" : (await isFull()) ? "full" : undefined),
      "all lines are written, or the disk is full",
    );
    const rotated = readdirSync(inside).filter((name) => name !== "web.log");
    for (const name of rotated) {
      const path = join(inside, `taken-${taken.length}`);
      unlessMissing(() => {
        renameSync(join(inside, name), path);
        taken.push(readFileSync(path, "utf8"));
        rmSync(path);
      });
    }
    if (state === "complete") break;
  }
  assert.deepEqual([...countOf([...taken, current()]).values()], [lines]);
});

test("a restart appends, and ends a record that a crash has cut", async () => {
  using directory = new Directory();
  writeFileSync(directory.log, '{"n":0,"pid":1}\n{"half');
  const workers = shellPool("web", "echo up; exec sleep 1000", { logs: { file: { path: directory.log } } });
  for (const starts of [1, 2]) {
    await using controller = await ControllerUnderTest.start({ workers });
    await said(controller, "web-0", "up");
    assert.equal((await controller.stop()).code, 0);
    const [first, half, ...rest] = readFileSync(directory.log, "utf8").split("\n").slice(0, -1);
    assert.deepEqual([first, half], ['{"n":0,"pid":1}', '{"half']);
    assert.deepEqual(
      rest.map((line) => JSON.parse(line)["worker_info_msg"]),
      Array(starts).fill("up"),
    );
  }
});

test("the file of a removed pool is closed", async () => {
  using directory = new Directory();
  const web = shellPool("web", "echo up; exec sleep 1000", { logs: { file: { path: directory.log } } });
  const other = shellPool("other", "exec sleep 1000");
  await using controller = await ControllerUnderTest.start({ workers: `${web}\n${other}` });
  await said(controller, "web-0", "up");
  assert.match(readFileSync(directory.log, "utf8"), /"worker_info_msg":"up"/u);
  controller.configure({ workers: other });
  assert.equal((await controller.call("POST", "/v1/reload")).status, 202);
  await eventually(async () => {
    const { body } = await controller.call("POST", "/v1/logs/reopen");
    return body === '{"files":[]}\n' || undefined;
  }, "no log file is open");
  assert.deepEqual(eventsOf(controller, "log_file_failed"), []);
});

test("reopening reports a file that cannot be opened, and the previous one receives all lines", async () => {
  using directory = new Directory();
  const script = `trap "echo said" USR1; echo up; while :; do sleep 1000 & wait; done`;
  await using controller = await ControllerUnderTest.start({
    workers: shellPool("web", script, { logs: { file: { path: directory.log } } }),
  });
  await said(controller, "web-0", "up");
  const moved = join(directory.path, "moved");
  renameSync(directory.log, moved);
  execFileSync("mkdir", [directory.log]);
  const { status, body } = await controller.call("POST", "/v1/logs/reopen");
  assert.equal(status, 409);
  assert.match(body, /LOG_FILE_FAILED.*EISDIR.*still go to the previous file/u);
  process.kill(await controller.pidOf("web-0"), "SIGUSR1");
  await eventually(() => readFileSync(moved, "utf8").includes('"said"') || undefined, "the previous file has the line");
});
