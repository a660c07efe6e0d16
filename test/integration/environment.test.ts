/** Values from secrets, env_file and the controller's environment reach workers byte by byte. */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the configuration contains variables
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { ControllerUnderTest, MONOCEROS, poolOf } from "../support/controller.ts";
import { command, commandOk } from "../support/traffic.ts";

const scratch = mkdtempSync(join(tmpdir(), "monoceros-environment-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

/** Text with special characters of templates, variables, YAML, printf and shells. */
const SECRET = "{{.Slot}} {{ .Nope }} ${HOME} $HOME $$ %s %% ' \" \\ # a: b\n- {x} `id` żółć 🎉";
/** Valid Latin-1, but not valid UTF-8. */
const BYTES = Buffer.from("caf\xe9 \xff\xfe", "latin1");

interface Started {
  readonly args: readonly string[];
  /** Entries as bytes in Latin-1. */
  readonly env: ReadonlyMap<string, string>;
}

/** Arguments and initial environment of a process. */
function started(pid: number): Started {
  const read = (name: string) => readFileSync(`/proc/${pid}/${name}`).toString("latin1").split("\0").slice(0, -1);
  const env = read("environ").map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)]);
  return { args: read("cmdline"), env: new Map(env as [string, string][]) };
}

function latin1(text: string): string {
  return Buffer.from(text).toString("latin1");
}

/** A pool as JSON, without the escaping of dollar signs in poolOf. */
function rawPool(pool: Readonly<Record<string, unknown>>): string {
  return `    - ${JSON.stringify(pool)}`;
}

test("a secret with special characters is passed unchanged in args, env and probe commands", async () => {
  const seen = join(scratch, "probe");
  const check = join(scratch, "check.sh");
  writeFileSync(
    check,
    `#!/bin/sh\nprintf %s "$1" > ${seen}.new && printf %s "$MINE" >> ${seen}.new && mv ${seen}.new ${seen}\n`,
    {
      mode: 0o755,
    },
  );
  await using controller = await ControllerUnderTest.start({
    workers: rawPool({
      name: "web",
      exec: "/bin/sh",
      args: ["-c", "sleep 1000 & wait", "sh", "${SECRET}", "a=${SECRET}{{.Slot}}", "${NOT_SET:-d}$$x"],
      env: { MINE: "${SECRET}", BOTH: "{{.Slot}}${SECRET}{{.WorkerID}}" },
      probes: { readiness: { exec: [check, "${SECRET}"], period: "50ms" } },
    }),
    env: { SECRET },
  });
  await controller.ready();
  const { args, env } = started(await controller.pidOf("web-0"));
  assert.deepEqual(args.slice(-3), [latin1(SECRET), latin1(`a=${SECRET}0`), "d$x"]);
  assert.equal(env.get("MINE"), latin1(SECRET));
  assert.equal(env.get("BOTH"), latin1(`0${SECRET}web-0`));
  assert.equal(env.get("SECRET"), latin1(SECRET));
  assert.equal(readFileSync(seen, "utf8"), SECRET + SECRET);
});

test("env_file is parsed with quotes, export and variables, and a change of the file replaces the workers at a reload", async () => {
  const file = join(scratch, "dialect.env");
  const write = (more: string) =>
    writeFileSync(file, `export A="v" # note\nB='${SECRET.replaceAll("'", "\\'")}'\nC=\${SECRET}\n${more}`);
  write("");
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", exec: "sleep", args: [1000], env_file: file }),
    env: { SECRET },
  });
  await controller.ready();
  const { env } = started(await controller.pidOf("web-0"));
  assert.deepEqual([env.get("A"), env.get("B"), env.get("C")], ["v", latin1(SECRET), latin1(SECRET)]);
  write("MULTIPROCESS_WORKER_ID=of-the-file\n");
  await commandOk(controller, "reload");
  const [successor] = Object.values(await controller.pids());
  const next = started(successor ?? 0);
  assert.equal(next.env.get("MULTIPROCESS_WORKER_ID"), "of-the-file", "a value of env_file overrides the default");
  write("oops\nD='x' y\n");
  const { code, stdout, stderr } = await command(controller, "reload");
  assert.equal(code, 78);
  assert.match(
    stdout + stderr,
    /dialect\.env:\d+: expected NAME=value[\s\S]*dialect\.env:\d+: only a comment may follow/u,
  );
});

test("bytes that are not UTF-8 are passed unchanged if inherited, from a variable, or from an env_file", async () => {
  const file = join(scratch, "bytes.env");
  writeFileSync(file, Buffer.concat([Buffer.from("OF_FILE="), BYTES, Buffer.from("\n")]));
  await using controller = await ControllerUnderTest.start({
    workers: rawPool({
      name: "web",
      exec: "/bin/sh",
      args: ["-c", "sleep 1000 & wait", "sh", "a=${RAW}{{.Slot}}"],
      env: { COPY: "<${RAW}>" },
      env_file: file,
    }),
    wrapper: [
      "/bin/sh",
      "-c",
      'RAW=$(printf "caf\\351 \\377\\376"); export RAW; exec env "$(printf "od\\351d name=x")" "$@"',
      "sh",
    ],
  });
  await controller.ready();
  const { args, env } = started(await controller.pidOf("web-0"));
  const raw = BYTES.toString("latin1");
  assert.deepEqual([env.get("RAW"), env.get("COPY"), env.get("OF_FILE")], [raw, `<${raw}>`, raw]);
  assert.equal(args.at(-1), `a=${raw}0`);
  assert.equal(env.get("od\xe9d name"), "x");
});

test("a configuration that is not UTF-8 is rejected with the position of the byte", async () => {
  for (const [bytes, message] of [
    [
      Buffer.from("# ok\nsupervisor: {workers: [{name: caf\xe9, exec: x}]}\n", "latin1"),
      /c\.yaml:2:34: byte 0xe9 \("é" in Latin-1\)/u,
    ],
    [Buffer.from("\ufeffsupervisor: {}", "utf16le"), /c\.yaml:1:1: the file is UTF-16/u],
  ] as const) {
    const file = join(scratch, "c.yaml");
    writeFileSync(file, bytes);
    const { status, stderr } = spawnSync(MONOCEROS, ["validate", "-c", file], { encoding: "utf8" });
    assert.equal(status, 78);
    assert.match(stderr, message);
  }
});
