/** What is wrong with Envoy, or with what it is asked for, is known before anything starts: on the real binary. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { ErrorCode } from "../../src/base/errors.ts";
import { ConfigurationError, type ConfigurationProblem } from "../../src/controller/configFile.ts";
import { type Preflight, preflight } from "../../src/controller/preflight.ts";
import { ENVOY } from "../support/envoy.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-envoy-binary-"));
after(() => rmSync(directory, { recursive: true }));

function script(name: string, text: string, mode = 0o755): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** The problems that preflight finds with the server of a pool. */
async function problemsOf(server: string, path = "/usr/bin:/bin"): Promise<readonly ConfigurationProblem[]> {
  return (await check(server, path)).problems.filter(({ code }) => /^(?:ENVOY|TLS)/u.test(code));
}

interface Checked {
  readonly passed?: Preflight;
  readonly problems: readonly ConfigurationProblem[];
}

async function check(server: string, path: string): Promise<Checked> {
  const file = script(
    "config.yaml",
    `supervisor: {workers: [{name: web, exec: sh, server: {socket_arg: {name: -u}, ${server}}}]}`,
  );
  try {
    return { passed: await preflight(file, { PATH: path }), problems: [] };
  } catch (error) {
    assert.ok(error instanceof ConfigurationError, String(error));
    return { problems: error.problems };
  }
}

function only(code: ErrorCode, message: RegExp, problems: readonly ConfigurationProblem[]): void {
  assert.deepEqual(
    problems.map((problem) => problem.code),
    [code],
  );
  assert.match(problems[0]?.message ?? "", message);
}

test("the bundled Envoy is accepted, by path or from PATH", async () => {
  assert.deepEqual(await problemsOf(`exec: ${ENVOY}`), []);
  symlinkSync(ENVOY, join(directory, "envoy"));
  assert.deepEqual(await problemsOf("listener_port: 10001", `${directory}:/usr/bin:/bin`), []);
});

test("an Envoy that is missing, not executable, another program or too old is reported [E8]", async () => {
  only("ENVOY_NOT_FOUND", /there is no Envoy at "\/no\/envoy"/u, await problemsOf("exec: /no/envoy"));
  only("ENVOY_NOT_EXECUTABLE", /may not be executed/u, await problemsOf(`exec: ${script("plain", "", 0o644)}`));
  only(
    "ENVOY_NOT_EXECUTABLE",
    /did not print its version \(hello\)/u,
    await problemsOf(`exec: ${script("else", "#!/bin/sh\necho hello")}`),
  );
  only(
    "ENVOY_NOT_EXECUTABLE",
    /did not print its version/u,
    await problemsOf(`exec: ${script("noise", "\u007fELF rubbish")}`),
  );
  const old = script("old", "#!/bin/sh\necho 'envoy  version: 0123/1.30.1/Clean/RELEASE/BoringSSL'");
  only("ENVOY_TOO_OLD", /is Envoy 1\.30\.1, expected 1\.31 or later/u, await problemsOf(`exec: ${old}`));
});

test("Envoy's reason for rejecting a pool's server is reported with its position in the file", async () => {
  only(
    "ENVOY_CONFIG_REFUSED",
    /malformed IP address: somewhere/u,
    await problemsOf(`exec: ${ENVOY}, listener_address: somewhere`),
  );
  const rubbish = script("rubbish.pem", "no certificate");
  const refused = await problemsOf(`exec: ${ENVOY}, tls: {cert: ${rubbish}, key: ${rubbish}}`);
  only("ENVOY_CONFIG_REFUSED", /pool "web": Envoy rejects its configuration: .*rubbish\.pem/u, refused);
  assert.equal(refused[0]?.path, "supervisor.workers[0].server");
});

test("a certificate or key that Envoy could not read, or would block on, is reported before Envoy runs", async () => {
  const file = script("good.pem", "x");
  const fifo = join(directory, "fifo");
  execFileSync("mkfifo", [fifo]);
  for (const [tls, message] of [
    [
      `{cert: /no/cert.pem, key: ${file}}`,
      /pool "web": tls\.cert "\/no\/cert\.pem" cannot be read: there is no such file$/u,
    ],
    [`{cert: ${file}, key: ${fifo}}`, /tls\.key ".*fifo" cannot be read: it is a FIFO, expected a file$/u],
    [`{cert: /dev/zero, key: ${file}}`, /tls\.cert "\/dev\/zero" cannot be read: it is a device/u],
  ] as const) {
    const refused = await problemsOf(`exec: ${ENVOY}, tls: ${tls}`);
    only("TLS_FILE_INVALID", message, refused);
    assert.equal(refused[0]?.path, "supervisor.workers[0].server.tls");
  }
});
