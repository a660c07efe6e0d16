import assert from "node:assert/strict";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { after, test } from "node:test";
import type { ErrorCode } from "../../base/errors.ts";
import { ControllerError } from "../../base/errors.ts";
import { FileError } from "../../files/readFile.ts";
import { type EnvFile, type LaunchKey, type LaunchPlan, type LaunchRequest, planLaunch } from "./launch.ts";

const isRoot = process.getuid?.() === 0;
const directory = mkdtempSync(join(tmpdir(), "monoceros-launch-"));
after(() => rmSync(directory, { recursive: true }));

const program = file("bin/server", "#!/bin/sh\n", 0o755);
const unmarked = file("bin/unmarked", "#!/bin/sh\n", 0o644);
const bin = join(directory, "bin");

function file(name: string, text: string, mode = 0o644): string {
  const path = join(directory, name);
  mkdirSync(join(path, ".."), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

function envFileOf(path: string): EnvFile {
  return { path, content: readFileSync(path) };
}

function request(changes: Partial<LaunchRequest> = {}): LaunchRequest {
  return {
    pool: "web",
    exec: program,
    args: [],
    commands: [],
    env: {},
    envFile: undefined,
    cwd: undefined,
    user: undefined,
    group: undefined,
    umask: undefined,
    nice: undefined,
    oomScoreAdj: undefined,
    rlimits: {},
    ...changes,
  };
}

/** The plan; throws the first problem. */
function plan(asked: LaunchRequest, environment: NodeJS.ProcessEnv): LaunchPlan {
  const launch = planLaunch(asked, environment, (_, error) => {
    throw error;
  });
  assert.ok(launch !== undefined);
  return launch;
}

function refusal(code: ErrorCode, message: RegExp, hint?: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof ControllerError);
    assert.equal(error.code, code);
    assert.match(error.message, message);
    if (hint !== undefined) assert.match(error.hint ?? "", hint);
    return true;
  };
}

test("an executable path is relative to the pool's directory", () => {
  assert.equal(plan(request(), {}).file, program);
  assert.equal(plan(request({ exec: "./bin/server", cwd: directory }), {}).file, program);
  assert.equal(plan(request({ exec: relative(process.cwd(), program) }), {}).file, program);
});

test("an executable without a slash is found on PATH, the pool's before the controller's", () => {
  assert.equal(plan(request({ exec: "server" }), { PATH: `/nowhere:${bin}` }).file, program);
  assert.equal(plan(request({ exec: "server", env: { PATH: bin } }), { PATH: "/nowhere" }).file, program);
  assert.match(plan(request({ exec: "sh" }), {}).file, /\/bin\/sh$/u);
});

test("an empty part of PATH means the current directory", () => {
  const before = process.cwd();
  process.chdir(bin);
  try {
    assert.match(plan(request({ exec: "server" }), { PATH: "/nowhere:" }).file, /\/bin\/server$/u);
  } finally {
    process.chdir(before);
  }
});

test("an executable that does not exist is named with the path that was tried", () => {
  assert.throws(
    () => plan(request({ exec: "./none", cwd: directory }), {}),
    refusal(
      "EXEC_NOT_FOUND",
      new RegExp(
        `^Cannot start pool "web": executable "./none" does not exist \\(looked for ${directory}/none\\)$`,
        "u",
      ),
    ),
  );
  assert.throws(
    () => plan(request({ exec: "no-such-server" }), { PATH: "/nowhere" }),
    refusal("EXEC_NOT_FOUND", /executable "no-such-server" is not on PATH \(\/nowhere\)$/u, /Install it/u),
  );
});

test("the error for a file without execute permission says how to add it", () => {
  assert.throws(
    () => plan(request({ exec: unmarked }), {}),
    refusal("EXEC_NOT_EXECUTABLE", /unmarked" may not be executed$/u, /^chmod \+x .*unmarked$/u),
  );
  assert.throws(
    () => plan(request({ exec: "unmarked" }), { PATH: bin }),
    refusal("EXEC_NOT_EXECUTABLE", /unmarked" may not be executed$/u, /^chmod \+x .*unmarked$/u),
  );
});

test("a directory is not an executable", () => {
  assert.throws(() => plan(request({ exec: bin }), {}), refusal("EXEC_NOT_EXECUTABLE", /is not a file$/u));
  assert.throws(
    () => plan(request({ exec: "bin" }), { PATH: directory }),
    refusal("EXEC_NOT_FOUND", /"bin" is not on PATH/u),
  );
});

test("a file on PATH without execute permission does not hide a later executable", () => {
  file("late/unmarked", "#!/bin/sh\n", 0o755);
  const path = `${bin}:${join(directory, "late")}`;
  assert.equal(plan(request({ exec: "unmarked" }), { PATH: path }).file, join(directory, "late/unmarked"));
});

test("cwd must be a directory and is made absolute", () => {
  assert.equal(plan(request({ cwd: relative(process.cwd(), directory) }), {}).cwd, directory);
  for (const cwd of [join(directory, "none"), program])
    assert.throws(() => plan(request({ cwd }), {}), refusal("CWD_NOT_FOUND", /is not a directory$/u));
});

test("the environment is the controller's, then env_file, then env, without variables for the controller alone", () => {
  const envFile = envFileOf(file("env", "A=file\nB=file\n"));
  const own = {
    A: "own",
    B: "own",
    C: "own",
    D: "own",
    NOTIFY_SOCKET: "/n",
    LISTEN_FDS: "1",
    WATCHDOG_USEC: "1",
    X: undefined,
  };
  assert.deepEqual(plan(request({ envFile, env: { A: "env" } }), own).env, {
    A: "env",
    B: "file",
    C: "own",
    D: "own",
  });
});

test("each problem of an env_file names its line and prevents the start", () => {
  const envFile = envFileOf(file("bad.env", "A=1\nwhat\nB='x' y\n"));
  const problems: string[] = [];
  const launch = planLaunch(request({ envFile }), {}, (key, error) =>
    problems.push(`${key} ${error.code} ${error.message}`),
  );
  assert.equal(launch, undefined);
  assert.equal(problems.length, 2);
  assert.match(problems[0] ?? "", /^env_file ENV_FILE_INVALID .*bad\.env:2: expected NAME=value/u);
  assert.match(problems[1] ?? "", /bad\.env:3: only a comment may follow/u);
});

test("configured variables are recorded, and bytes of an env_file are kept", () => {
  const envFile = { path: "bytes.env", content: Buffer.from("A=caf\xe9\n__proto__=p\n", "latin1") };
  const { env, configured } = plan(request({ envFile, env: { C: "x" } }), { B: "own", C: "own" });
  assert.deepEqual(Object.entries(env).toSorted(), [
    ["A", "caf\udce9"],
    ["B", "own"],
    ["C", "x"],
    ["__proto__", "p"],
  ]);
  assert.deepEqual([...configured].toSorted(), ["A", "C", "__proto__"]);
});

test("an unreadable env_file is an error with its cause", () => {
  assert.throws(
    () => plan(request({ envFile: { path: "none.env", content: new FileError("there is no such file") } }), {}),
    (error) =>
      refusal("ENV_FILE_INVALID", /none\.env" cannot be read: there is no such file$/u)(error) &&
      error instanceof Error &&
      error.cause instanceof Error,
  );
});

test("an unknown user or group is an error", () => {
  assert.throws(() => plan(request({ user: "no-such-user" }), {}), refusal("USER_NOT_FOUND", /\/etc\/passwd$/u));
  assert.throws(() => plan(request({ group: "no-such-group" }), {}), refusal("USER_NOT_FOUND", /\/etc\/group$/u));
});

test("a user determines the group, the supplementary groups and HOME", { skip: !isRoot }, () => {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((each) => each.startsWith("nobody:"));
  assert.ok(line !== undefined);
  const [, , uid, gid, , home] = line.split(":");
  const launch = plan(request({ user: "nobody", env: { HOME: "/mine" } }), { USER: "root", HOME: "/root" });
  assert.deepEqual([launch.credentials?.uid, launch.credentials?.gid], [Number(uid), Number(gid)]);
  assert.ok(launch.credentials?.groups.includes(Number(gid)));
  assert.deepEqual(launch.env, { USER: "nobody", LOGNAME: "nobody", HOME: "/mine" });
  assert.equal(plan(request({ user: "nobody" }), { HOME: "/root" }).env["HOME"], home);
});

test("numeric ids need no entry, and a group alone keeps the user", { skip: !isRoot }, () => {
  assert.deepEqual(plan(request({ user: "54321" }), {}).credentials, {
    uid: 54_321,
    gid: 54_321,
    groups: [54_321],
  });
  assert.deepEqual(plan(request({ user: "54321", group: "54322" }), {}).credentials, {
    uid: 54_321,
    gid: 54_322,
    groups: [54_322],
  });
  assert.deepEqual(plan(request({ group: "54322" }), {}).credentials, { uid: 0, gid: 54_322, groups: [54_322] });
});

test("only root may change identity, but the current identity needs no privilege", { skip: isRoot }, () => {
  const own = String(process.getuid?.());
  const group = String(process.getgid?.());
  assert.equal(plan(request({ user: own, group }), {}).credentials, undefined);
  assert.throws(
    () => plan(request({ user: "0", group: "0" }), {}),
    refusal(
      "PERMISSION_REQUIRED",
      new RegExp(`as "0:0": the controller runs as uid ${own}, only root may change identity$`, "u"),
    ),
  );
});

test("every problem of a pool is reported with its key", () => {
  const told: (readonly [LaunchKey, ErrorCode])[] = [];
  const asked = request({
    exec: "no-such-server",
    commands: [
      { key: "probes.startup.exec", program: "./relative-to-what", args: [] },
      { key: "probes.liveness.exec", program: unmarked, args: [] },
    ],
    cwd: join(directory, "none"),
    user: "no-such-user",
    group: "no-such-group",
    envFile: { path: "none.env", content: new FileError("there is no such file") },
  });
  const launch = planLaunch(asked, { PATH: bin }, (key, { code }) => told.push([key, code]));
  assert.equal(launch, undefined);
  assert.deepEqual(told, [
    ["cwd", "CWD_NOT_FOUND"],
    ["user", "USER_NOT_FOUND"],
    ["group", "USER_NOT_FOUND"],
    ["env_file", "ENV_FILE_INVALID"],
    ["exec", "EXEC_NOT_FOUND"],
    ["probes.liveness.exec", "EXEC_NOT_EXECUTABLE"],
  ]);
});

test("limits, umask, nice and oom_score_adj are passed unchanged", () => {
  const rlimits = { nofile: { soft: 1024, hard: undefined } } as const;
  const oomScoreAdj = { value: 500, isRelative: true };
  const launch = plan(request({ umask: 0o027, nice: 5, oomScoreAdj, rlimits }), {});
  assert.deepEqual([launch.umask, launch.nice, launch.oomScoreAdj], [0o027, 5, oomScoreAdj]);
  assert.deepEqual(launch.rlimits, new Map([["nofile", { soft: 1024, hard: undefined }]]));
  assert.equal(launch.credentials, undefined);
});

test("a whole command line in exec gets a hint with the correct form", () => {
  const hintOf = (exec: string) => {
    let hint: string | undefined;
    planLaunch(request({ exec }), { PATH: "/usr/bin:/bin" }, (_, error) => {
      hint = error.hint;
    });
    return hint;
  };
  assert.equal(
    hintOf("python app.py --x"),
    'exec is the program alone: write exec: python and args: ["app.py", "--x"]',
  );
  assert.equal(hintOf("./bin/no-such -a"), 'exec is the program alone: write exec: ./bin/no-such and args: ["-a"]');
  assert.equal(hintOf("cd /app && x"), 'exec is the program alone: write exec: /bin/sh and args: [-c, "cd /app && x"]');
  assert.match(hintOf("no-such-program") ?? "", /^Install it/u);
});

test("an executable with a missing interpreter or an unsupported format is refused", () => {
  const missing = file("bin/missing", "#!/no/such/interpreter\n", 0o755);
  assert.throws(
    () => plan(request({ exec: missing }), {}),
    refusal("INTERPRETER_NOT_FOUND", /needs the interpreter "\/no\/such\/interpreter"/u),
  );
  const bare = file("bin/bare", "echo hello\n", 0o755);
  assert.throws(() => plan(request({ exec: bare }), {}), refusal("EXEC_NOT_EXECUTABLE", /script with a #! line/u));
  // What env looks for is looked for on the worker's PATH.
  const script = file("bin/script", "#!/usr/bin/env server\n", 0o755);
  assert.equal(plan(request({ exec: script, env: { PATH: bin } }), {}).file, script);
  assert.throws(
    () => plan(request({ exec: script, env: { PATH: "/nonexistent" } }), { PATH: bin }),
    refusal("INTERPRETER_NOT_FOUND", /not on the worker's PATH \(\/nonexistent\)/u),
  );
});

test("arguments and variables beyond the kernel's limits are problems of their keys", () => {
  const long = "x".repeat(200_000);
  const told = (changes: Partial<LaunchRequest>) => {
    const keys: string[] = [];
    planLaunch(request(changes), {}, (key, { code }) => keys.push(`${key} ${code}`));
    return keys;
  };
  assert.deepEqual(told({ args: ["x", long] }), ["args ARGUMENTS_TOO_LONG"]);
  assert.deepEqual(told({ env: { A: long }, args: [long] }), ["args ARGUMENTS_TOO_LONG"]);
  assert.deepEqual(told({ env: { A: long } }), ["env ARGUMENTS_TOO_LONG"]);
  const commands = [{ key: "probes.liveness.exec", program, args: [long] }] as const;
  assert.deepEqual(told({ commands }), ["probes.liveness.exec ARGUMENTS_TOO_LONG"]);
});
