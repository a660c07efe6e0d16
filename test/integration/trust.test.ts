/** Attacks by another user of the machine on the real executable. Runs as root, with processes of a second user. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, type TestContext, test } from "node:test";
import { ControllerUnderTest, MONOCEROS, poolOf } from "../support/controller.ts";
import { ENVOY } from "../support/envoy.ts";

const ATTACKER = 10_001;

const directory = mkdtempSync(join(tmpdir(), "monoceros-trust-"));
chmodSync(directory, 0o755);
after(() => rmSync(directory, { recursive: true }));

/** Runs the executable and waits for its exit. */
async function monoceros(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(MONOCEROS, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    stdout += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
  });
  const bound = setTimeout(() => child.kill("SIGKILL"), 60_000);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(bound);
  return { code, stdout, stderr };
}

let directories = 0;
/** Creates a directory with this mode and owner. */
function makeDirectory(mode: number, owner = 0): string {
  const path = join(directory, `directory-${directories++}`);
  mkdirSync(path);
  chmodSync(path, mode);
  chownSync(path, owner, owner);
  return path;
}

/** Starts a fake controller of the attacker on `path`, which answers status requests and records all requests. */
async function fakeController(context: TestContext, path: string, requests: string): Promise<void> {
  const script = `
import http.server, json, os, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        open(sys.argv[2], "a").write(self.path + "\\n")
        body = json.dumps({"version": "1", "pid": 1, "phase": "running", "healthy": True, "uptime_s": 1, "pools": []}).encode()
        self.send_response(200); self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *args): pass
class Server(socketserver.UnixStreamServer):
    def get_request(self):
        request, _ = super().get_request()
        return request, ("", 0)
server = Server(sys.argv[1], Handler)
os.chmod(sys.argv[1], 0o777)
print("listening", flush=True)
server.serve_forever()
`;
  const child = spawn("python3", ["-c", script, path, requests], {
    uid: ATTACKER,
    gid: ATTACKER,
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.after(async () => {
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  });
  await once(child.stdout, "data");
}

describe("another user of the machine", { skip: process.getuid?.() !== 0, concurrency: false }, () => {
  test("cannot impersonate the controller in the temporary directory; an explicitly named socket is used", async (context) => {
    const temporary = makeDirectory(0o1777);
    const requests = join(makeDirectory(0o777), "requests");
    mkdirSync(join(temporary, "monoceros-0"));
    chownSync(join(temporary, "monoceros-0"), ATTACKER, ATTACKER);
    const socket = join(temporary, "monoceros-0/monoceros.sock");
    await fakeController(context, socket, requests);
    const env = { TMPDIR: temporary, XDG_RUNTIME_DIR: "" };
    for (const command of [["status"], ["completion", "names"], ["stop", "--all"]]) {
      const { code, stderr } = await monoceros(command, env);
      assert.equal(code, 69);
      assert.match(stderr, /monoceros\.sock: not trusted, user 10001 owns the directory "[^"]*monoceros-0"/u);
    }
    // If root owns the directory and the socket file, the command line checks the user of the process that answers.
    chownSync(join(temporary, "monoceros-0"), 0, 0);
    lchownSync(socket, 0, 0);
    assert.match(
      (await monoceros(["status"], env)).stderr,
      /not trusted, a process of user 10001 listens on it, expected root or user 0/u,
    );
    assert.match((await monoceros(["status", "--socket", socket])).stderr, /user 10001 listens on it/u);
    assert.equal(existsSync(requests), false, "nothing was sent");
    lchownSync(socket, ATTACKER, ATTACKER);
    assert.equal((await monoceros(["status", "--socket", socket])).code, 0);
    assert.equal((await monoceros(["status"], { MONOCEROS_SOCKET: socket })).code, 0);
  });

  test("cannot supply Envoy's files by owning runtime_dir, a symbolic link to it or a directory above it", async () => {
    const sticky = makeDirectory(0o1777);
    const owned = join(sticky, "run");
    mkdirSync(owned);
    chownSync(owned, ATTACKER, ATTACKER);
    const link = join(sticky, "link");
    symlinkSync(makeDirectory(0o755), link);
    lchownSync(link, ATTACKER, ATTACKER);
    const below = join(makeDirectory(0o777), "run");
    for (const [runtime, reason] of [
      [owned, /RUNTIME_DIR_UNSAFE|user 10001 owns the directory/u],
      [link, /user 10001 owns the symbolic link/u],
      [below, /every user may write to the directory/u],
    ] as const) {
      const { code, stderr } = await run(
        `{name: web, exec: sleep, args: ["9"], server: {exec: ${ENVOY}, socket_arg: {name: -u}, listener_port: 0}}`,
        `runtime_dir: ${runtime}`,
      );
      assert.match(stderr, reason);
      assert.match(stderr, /for sockets and Envoy's files/u);
      assert.equal(code, 78);
    }
    assert.equal(existsSync(below), false, "nothing was created");
  });

  test("cannot make root run an Envoy that the attacker could replace", async () => {
    const open = makeDirectory(0o777);
    const own = makeDirectory(0o755);
    for (const path of [open, own]) {
      writeFileSync(join(path, "envoy"), `#!/bin/sh\ntouch ${directory}/ran\n`, { mode: 0o755 });
      chmodSync(join(path, "envoy"), 0o755);
    }
    chownSync(join(own, "envoy"), ATTACKER, ATTACKER);
    const pool = (server: string) => `{name: web, exec: sleep, args: ["9"], server: {${server}socket_arg: {name: -u}}}`;
    const named = await run(pool(`exec: ${open}/envoy, `));
    assert.match(named.stderr, /PROGRAM_UNTRUSTED/u);
    assert.match(named.stderr, /every user may write to the directory/u);
    assert.equal(named.code, 78);
    const found = await run(pool("exec: envoy, "), "", { PATH: `${own}:/usr/bin:/bin` });
    assert.match(found.stderr, /user 10001 owns the file "[^"]*envoy"/u);
    assert.equal(found.code, 78);
    assert.equal(existsSync(join(directory, "ran")), false, "it did not run");
  });
});

/** Runs a controller with a runtime directory in `volume` until it is ready or has failed. Returns its stderr. */
async function start(volume: string, user: string, wrapper: readonly string[]): Promise<string> {
  const file = join(makeDirectory(0o755), "config.yaml");
  const pool = `{name: web, exec: sleep, args: ["100"], ${user}metrics: {multiproc: true, port: 19999}, rolling: {min_ready: 0s}}`;
  writeFileSync(
    file,
    `supervisor: {runtime_dir: ${volume}/run, workers: [${pool}]}\nadmin: {port: 0, socket: ${volume}/c.sock}\n`,
  );
  const [program = MONOCEROS, ...args] = [...wrapper, MONOCEROS, "run", "-d", "-c", file];
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], detached: true });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    stderr += chunk;
    // The process group, because the wrapper does not forward signals.
    if (/controller is ready/u.test(chunk)) process.kill(-(child.pid ?? 0), "SIGTERM");
  });
  await once(child, "close");
  return stderr;
}

const CONTAINER = "unshare --pid --fork --mount-proc --kill-child".split(" ");
const AS_USER = `setpriv --reuid ${ATTACKER} --regid ${ATTACKER} --clear-groups --no-new-privs`.split(" ");

test("a volume with mode 0777 is accepted in a container with a single user, and otherwise only if it is sticky", {
  skip: process.getuid?.() !== 0 || spawnSync(CONTAINER[0] ?? "", [...CONTAINER.slice(1), "true"]).status !== 0,
}, async () => {
  const [ready, refused] = [/controller is ready/u, /every user may write to the directory "[^"]*".*\n.*chmod \+t/u];
  assert.match(await start(makeDirectory(0o777), "", [...CONTAINER, ...AS_USER]), ready);
  assert.match(await start(makeDirectory(0o777), "", AS_USER), refused);
  assert.match(await start(makeDirectory(0o777), `user: "${ATTACKER}", `, CONTAINER), refused);
  assert.match(await start(makeDirectory(0o1777), `user: "${ATTACKER}", `, CONTAINER), ready);
});

/** Runs a controller with one pool and waits for its exit. */
function run(pool: string, supervisor = "", env: Record<string, string> = {}) {
  const file = join(makeDirectory(0o755), "config.yaml");
  writeFileSync(
    file,
    `supervisor:\n  ${supervisor}\n  workers: [${pool}]\nadmin: {port: 0, socket: ${directory}/c.sock}\n`,
  );
  return monoceros(["run", "-c", file], env);
}

test("a FIFO, a device or a directory instead of a file is rejected at once", async () => {
  const fifo = join(directory, "fifo");
  execFileSync("mkfifo", [fifo]);
  const config = (pool: string, admin = "") => {
    const file = join(makeDirectory(0o755), "config.yaml");
    writeFileSync(
      file,
      `supervisor: {workers: [{name: web, exec: sleep, args: ["9"]${pool}}]}\nadmin: {port: 0${admin}}\n`,
    );
    return file;
  };
  for (const path of [fifo, "/dev/zero", directory]) {
    for (const [file, code] of [
      [path, "Cannot read configuration"],
      [config(`, env_file: ${path}`), "ENV_FILE_INVALID"],
      [config("", `, token_file: ${path}`), "TOKEN_FILE_INVALID"],
    ] as const) {
      const answer = await monoceros(["validate", "-c", file]);
      assert.equal(answer.code, 78, answer.stderr);
      assert.match(answer.stderr, new RegExp(code, "u"));
      assert.match(answer.stderr, /it is a (?:FIFO|device|directory), expected a file/u);
    }
  }
});

test("a reload with a FIFO as env_file is rejected, and the controller keeps running", async () => {
  const envFile = join(directory, "variables");
  writeFileSync(envFile, "A=1\n");
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", exec: "sleep", args: ["100000"], startup_wait_time: "0s", env_file: envFile }),
  });
  await controller.ready();
  rmSync(envFile);
  execFileSync("mkfifo", [envFile]);
  const { code, stderr } = await monoceros(["reload", "--socket", controller.socket]);
  assert.equal(code, 78, stderr);
  assert.match(stderr, /it is a FIFO, expected a file/u);
  await controller.stop();
});
