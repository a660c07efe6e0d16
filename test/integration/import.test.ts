/** `monoceros import` on files in the shapes of real ones, with the interpreters of this machine. */
import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { after, test } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { parse } from "yaml";
import { ControllerError, type ErrorCode } from "../../src/base/errors.ts";
import { cli } from "../../src/cli/cli.ts";
import { COMMAND_GROUPS } from "../../src/cli/commands.ts";
import { IMPORT_KINDS, type ImportKind, type ImportOptions, importFile } from "../../src/cli/importSource.ts";
import { parseConfig } from "../../src/config/load.ts";
import type { CheckedImport } from "../../src/import/check.ts";
import { ControllerUnderTest } from "../support/controller.ts";
import { MemoryTerminal } from "../support/memoryTerminal.ts";
import { said } from "../support/watch.ts";

const FIXTURES = "test/fixtures/import";
const PATH = `${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`;
const HAS_PYTHON = PATH.split(":").some((each) => existsSync(join(each, "python3")));

const directory = mkdtempSync(join(tmpdir(), "monoceros-import-"));
after(() => rmSync(directory, { recursive: true }));

function fileOf(name: string, text: string | Uint8Array): string {
  const file = join(directory, name);
  writeFileSync(file, text);
  return file;
}

const OPTIONS: ImportOptions = { env: undefined, formation: {}, app: undefined, mayExecute: true, path: PATH };

function translate(kind: ImportKind, file: string, options: Partial<ImportOptions> = {}): Promise<CheckedImport> {
  return importFile(kind, file, { ...OPTIONS, ...options });
}

async function runCli(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const terminal = new MemoryTerminal();
  const code = await cli(argv, { groups: COMMAND_GROUPS, env: { PATH }, terminal });
  return { code, stdout: terminal.stdout, stderr: terminal.stderr };
}

const FILES = IMPORT_KINDS.flatMap((kind) =>
  readdirSync(join(FIXTURES, kind), { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => ({ kind, file: join(FIXTURES, kind, name) })),
);

for (const { kind, file } of FILES)
  test(`${kind} ${basename(file)}: the result is valid, and no key of the file is missing`, async () => {
    const { yaml, ignored } = await translate(kind, file);
    const env = Object.fromEntries([...yaml.matchAll(/\$\{(\w+)/gu)].map(([, name = ""]) => [name, "1"]));
    const parsed = parseConfig(yaml, file, env);
    assert.deepEqual(parsed.ok ? [] : parsed.problems, []);
    const missing = (await keysOf(kind, file)).filter(({ key, line }) => {
      const isIgnored = ignored.some(
        (each) =>
          `.${each.key}`.endsWith(`.${key}`) &&
          (line === undefined || each.where.endsWith(`${basename(file)}:${line}`)),
      );
      // As a comment, or as a key of ours with the same name.
      return !isIgnored && !new RegExp(`#.*(?<![\\w.])${key}(?!\\w)|^\\s*(?:- )?${key}:`, "mu").test(yaml);
    });
    assert.deepEqual(missing, []);
  });

interface SourceKey {
  readonly key: string;
  readonly line: number | undefined;
}

/** The keys of a file, found without the importer. */
async function keysOf(kind: ImportKind, file: string): Promise<SourceKey[]> {
  const text = readFileSync(file, "utf8");
  if (kind === "pm2") {
    const data = file.endsWith("js")
      ? (await import(pathToFileURL(resolve(file)).href)).default
      : (parse(text) as Record<string, unknown>);
    const apps = (data.apps ?? [data]) as Record<string, unknown>[];
    return apps.flatMap((app) => Object.keys(app).map((key) => ({ key, line: undefined })));
  }
  const patterns = {
    supervisord: /^([\w.-]+)\s*[=:]/u,
    procfile: /^([\w-]+):/u,
    // The fixtures have one name that is no setting.
    gunicorn: /^(?!cores)(?:def )?(\w+)(?: = |\()/u,
    systemd: /^(\w+)=/u,
  };
  return text.split("\n").flatMap((line, index) => {
    const key = patterns[kind].exec(line)?.[1];
    return key === undefined ? [] : [{ key, line: index + 1 }];
  });
}

test("files that a supervisord configuration includes and drop-ins of a unit are read", async () => {
  assert.deepEqual((await translate("supervisord", `${FIXTURES}/supervisord/included.conf`)).pools, ["api"]);
  assert.match((await translate("systemd", `${FIXTURES}/systemd/worker@.service`)).yaml, /nice: 10/u);
});

test("a directory may contain characters of patterns", async () => {
  const odd = join(directory, "a[b]{c}*");
  mkdirSync(join(odd, "conf.d"), { recursive: true });
  writeFileSync(join(odd, "s.conf"), "[include]\nfiles = conf.d/*.conf %(here)s/x.ini\n");
  writeFileSync(join(odd, "conf.d/b.conf"), "[program:b]\ncommand=b\n");
  writeFileSync(join(odd, "x.ini"), "[program:x]\ncommand=x\n");
  assert.deepEqual((await translate("supervisord", join(odd, "s.conf"))).pools, ["b", "x"]);
});

test("python3 computes the values of a gunicorn configuration", { skip: !HAS_PYTHON }, async () => {
  const file = `${FIXTURES}/gunicorn/computed.conf.py`;
  const { ignored, yaml } = await translate("gunicorn", file);
  assert.deepEqual(ignored, []);
  assert.match(yaml, /replicas: \d+ # workers/u);
  const literal = await translate("gunicorn", file, { mayExecute: false });
  assert.deepEqual(
    literal.ignored.map(({ key }) => key),
    ["workers", "bind"],
  );
  assert.deepEqual((await translate("gunicorn", file, { path: directory })).ignored.length, 2, "without python3");
});

async function rejects(translation: Promise<unknown>, code: ErrorCode, message: RegExp, hint?: RegExp): Promise<void> {
  await assert.rejects(translation, (error) => {
    assert.ok(error instanceof ControllerError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    if (hint !== undefined) assert.match(error.hint ?? "", hint);
    return true;
  });
}

test("a file that cannot be read, or is no text, is refused", async () => {
  const unreadable = (file: string, message: RegExp) =>
    rejects(translate("supervisord", file), "IMPORT_SOURCE_UNREADABLE", message);
  await unreadable(join(directory, "none"), /Cannot read ".*none": there is no such file/u);
  await unreadable(directory, /it is a directory/u);
  await unreadable(fileOf("large.conf", "#".repeat((1 << 20) + 1)), /it is larger than/u);
  await unreadable(fileOf("binary.conf", Uint8Array.of(0x5b, 0, 1, 2)), /it is not a text file/u);
  await unreadable(fileOf("latin.conf", Uint8Array.of(0x5b, 0xe9, 0x0a)), /it is not a text file in UTF-8/u);
  if (process.getuid?.() === 0) return;
  chmodSync(fileOf("secret.conf", "[program:a]"), 0);
  await unreadable(join(directory, "secret.conf"), /this user may not read it/u);
});

test("a file of another kind is refused, and the error names the kind", async () => {
  const invalid = (kind: ImportKind, file: string, message: RegExp, hint?: RegExp) =>
    rejects(translate(kind, file), "IMPORT_SOURCE_INVALID", message, hint);
  const unit = `${FIXTURES}/systemd/shop.service`;
  await invalid("supervisord", unit, /as a supervisord configuration: it has no section/u, /this is a systemd unit/u);
  await invalid("procfile", unit, /as a Procfile: .*expected a line such as/u, /this is a systemd unit/u);
  await invalid("systemd", `${FIXTURES}/procfile/Procfile.rails`, /expected a section such as \[Service\]/u);
  await invalid("pm2", fileOf("p.json", "{"), /as a PM2 configuration: .*p\.json:1: /u);
  await invalid("pm2", fileOf("p.cjs", "module.exports = { apps: [1] };"), /expected `apps`, a list of objects/u);
  await invalid("pm2", fileOf("q.cjs", "module.exports = undefined;"), /expected `apps`/u);
  await invalid("gunicorn", fileOf("g.py", "x = 1\n"), /sets none of gunicorn's settings/u);
});

test("a file that throws, exits, prints something else or cannot be evaluated is refused", async () => {
  const failed = (kind: ImportKind, file: string, message: RegExp, options: Partial<ImportOptions> = {}) =>
    rejects(translate(kind, file, options), "IMPORT_EVALUATION_FAILED", message);
  const pm2 = (text: string) => fileOf(`e${text.length}.config.cjs`, text);
  await failed(
    "pm2",
    pm2("throw new TypeError('no database');"),
    /node printed no configuration: TypeError: no database/u,
  );
  await failed("pm2", pm2("syntax error here"), /printed no configuration: SyntaxError/u);
  await failed("pm2", pm2("console.log('{\"apps\": []}'); process.exit(0);"), /printed no configuration: \{"apps"/u);
  await failed("pm2", pm2("module.exports = () => 1;"), /it exports no configuration, expected an object with apps/u);
  await failed("pm2", pm2("const a = { apps: [] }; a.self = a; module.exports = a;"), /circular structure/u);
  const flood = pm2("for (let i = 0; i < 40; i += 1) console.log('x'.repeat(100000)); module.exports = { apps: [] };");
  await failed("pm2", flood, /printed no configuration: x{300}$/u);
  await failed("pm2", pm2("module.exports = {};\n"), /there is no node on PATH/u, { path: directory });
  const broken = join(directory, "broken");
  mkdirSync(broken);
  writeFileSync(join(broken, "node"), "#!/nowhere\n", { mode: 0o755 });
  await failed("pm2", pm2("module.exports = {};\n\n"), /node printed no configuration: .*cannot be started/u, {
    path: broken,
  });
  if (HAS_PYTHON) await failed("gunicorn", fileOf("f.py", "import nowhere\n"), /ModuleNotFoundError: No module named/u);
});

test("a file that prints before its export, and keeps timers, is read", async () => {
  const file = fileOf(
    "loud.config.cjs",
    "console.log('loading'); setInterval(() => {}, 1000); module.exports = { apps: [{ name: 'a', script: 'a.js' }] };",
  );
  assert.deepEqual((await translate("pm2", file)).pools, ["a"]);
});

test("a file that never ends is stopped with everything that it started", async () => {
  const pids = join(directory, "pids");
  const file = fileOf(
    "endless.config.cjs",
    `const { spawn } = require("node:child_process");
const child = spawn("sleep", ["1000"], { detached: true, stdio: "ignore" });
require("node:fs").writeFileSync(${JSON.stringify(pids)}, process.pid + " " + child.pid);
for (;;);`,
  );
  const running = translate("pm2", file, { boundMs: 5000 });
  await rejects(running, "IMPORT_EVALUATION_FAILED", /node did not finish it within 5s/u);
  for (const pid of readFileSync(pids, "utf8").split(" ").map(Number)) await exited(pid);
});

/** A zombie has exited. */
async function exited(pid: number): Promise<void> {
  for (;;) {
    try {
      if (/^State:\s+Z/mu.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return;
    } catch {
      return;
    }
    await wait(20);
  }
}

test("an imported configuration runs: sockets as stdin, slots, and text that looks like ours stays literal", async () => {
  const file = fileOf(
    "run.conf",
    `[fcgi-program:cgi]
command=sh -c 'readlink /proc/self/fd/0 | cut -c1-7; exec sleep 1000'
socket=unix://${join(directory, "cgi.sock")}

[program:queue]
command=sh -c 'echo "$GREETING $SLOT %%"; exec sleep 1000'
numprocs=2
environment=GREETING="hello \${HOME} {{.Slot}} $$",SLOT="%(process_num)d"
`,
  );
  const { yaml, ignored } = await translate("supervisord", file);
  assert.deepEqual(ignored, []);
  const workers = yaml.slice(yaml.indexOf("  workers:\n") + "  workers:\n".length);
  await using controller = await ControllerUnderTest.start({ workers });
  await said(controller, "cgi-0", "socket:");
  for (const slot of [0, 1]) await said(controller, `queue-${slot}`, `hello \${HOME} {{.Slot}} $$ ${slot} %`);
});

test("-o writes a new file with the permissions of the source, and replaces one only with --force", async () => {
  const file = fileOf("shop.conf", "[program:a]\ncommand=a\nenvironment=SECRET=x\ncolour=blue\n");
  chmodSync(file, 0o640);
  const output = join(directory, "out.yaml");
  const first = await runCli("import", "supervisord", file, "-o", output);
  assert.deepEqual([first.code, first.stdout], [0, `wrote ${output} with 1 pool: a\n`]);
  assert.match(first.stderr, /1 key not translated/u);
  assert.equal(statSync(output).mode & 0o777, 0o640);
  const text = readFileSync(output, "utf8");
  assert.match(text, /- name: a\n/u);
  writeFileSync(output, "mine");
  const second = await runCli("import", "supervisord", file, "-o", output);
  assert.equal(second.code, 1);
  assert.match(second.stderr, /Cannot write ".*out\.yaml": it exists already\n {2}hint: .*--force/u);
  assert.equal(readFileSync(output, "utf8"), "mine");
  assert.equal((await runCli("import", "supervisord", file, "-o", output, "--force")).code, 0);
  assert.equal(readFileSync(output, "utf8"), text);
  assert.match((await runCli("import", "supervisord", file, "-o", join(directory, "no/x"))).stderr, /ENOENT/u);
  assert.deepEqual(
    readdirSync(directory).filter((name) => name.endsWith(".tmp")),
    [],
  );
});

test("--strict fails without a file if a key was not translated", async () => {
  const file = fileOf("strict.conf", "[program:a]\ncommand=a\ncolour=blue\n");
  const output = join(directory, "strict.yaml");
  const refused = await runCli("import", "supervisord", file, "--strict", "-o", output);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /1 key not translated\n {2}.*strict\.conf:3: program:a\.colour: /u);
  assert.equal(existsSync(output), false);
  writeFileSync(file, "[program:a]\ncommand=a\n");
  assert.equal((await runCli("import", "supervisord", file, "--strict", "-o", output)).code, 0);
});

test("--json lists the ignored keys with place and reason, and contains the configuration", async () => {
  const file = fileOf("json.conf", "[program:a]\ncommand=a\ncolour=blue\n");
  const { stdout } = await runCli("import", "supervisord", file, "--json");
  const { config, ignored, ...rest } = JSON.parse(stdout);
  assert.deepEqual(rest, { kind: "supervisord", file, output: null, pools: ["a"], disabled: [], notes: [] });
  assert.deepEqual(ignored, [
    {
      key: "program:a.colour",
      where: `${file}:3`,
      reason: "the importer does not know this key",
    },
  ]);
  assert.equal(parse(config).supervisor.workers[0].name, "a");
});

test("docs/howto/move-from-a-peer.md shows what the importer prints", { skip: !HAS_PYTHON }, async () => {
  const page = readFileSync("docs/howto/move-from-a-peer.md", "utf8");
  const pattern = /^`([^`\n]+)`:\n\n```\w+\n(.*?)^```\n\n```console\n\$ monoceros (import [^\n]+)\n(.*?)^```$/gmsu;
  const examples = [...page.matchAll(pattern)];
  assert.equal(examples.length, IMPORT_KINDS.length);
  for (const [, name = "", text = "", command = "", output = ""] of examples) {
    const file = fileOf(name, text);
    const { stdout, stderr } = await runCli(...command.split(" ").map((word) => (word === name ? file : word)));
    const shown = (stdout + stderr).replaceAll(file, name).replaceAll(`/srv/shop/${name}`, name);
    // The absolute path of a gunicorn configuration is an argument.
    assert.equal(shown, output.replaceAll(`/srv/shop/${name}`, name));
  }
});

test("flags of another kind and unknown kinds are usage errors", async () => {
  for (const [argv, message] of [
    [["pm3", "x"], /unknown kind "pm3", did you mean "pm2"\?/u],
    [["circus", "x"], /unknown kind "circus", expected one of supervisord, /u],
    [["procfile", "x", "--env", "production"], /--env applies only to pm2/u],
    [["pm2", "x", "--no-eval"], /--no-eval applies only to gunicorn/u],
    [["procfile", "x", "--formation", "web"], /--formation: expected a list such as web=4,worker=2, got "web"/u],
    [["procfile", "x", "--force"], /--force needs -o FILE/u],
    [["procfile"], /FILE/u],
  ] as const) {
    const { code, stderr } = await runCli("import", ...argv);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
});
