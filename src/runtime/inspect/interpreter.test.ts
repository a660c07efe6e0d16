/** What executables need beside themselves, on real files and with the kernel as the judge. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, copyFileSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { PreparedStrings, reapPid, SystemCallError, spawnProcess } from "../os/linux.ts";
import {
  findProgramProblem,
  matchesFormat,
  parseElfHeader,
  parseEnvArgument,
  parseInterpreterLine,
} from "./interpreter.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-interpreter-"));
after(() => rmSync(directory, { recursive: true }));

// Listened to all the time, so that none is missed.
process.on("SIGCHLD", () => {});
const sink = openSync("/dev/null", "w");
let files = 0;
function program(content: string | Buffer, mode = 0o755): string {
  const path = join(directory, `program${files++}`);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

const PATH = process.env["PATH"];

function problemOf(file: string): string | undefined {
  return findProgramProblem(file, { cwd: directory, path: PATH })?.text;
}

/** What the kernel, and env(1), make of it: the errno, or the exit code. Not execvp(3), which helps itself with a shell. */
async function verdict(file: string): Promise<string> {
  try {
    const pid = spawnProcess({
      file,
      argv: [file],
      sharedEnv: new PreparedStrings([]),
      env: [`PATH=${PATH}`],
      cwd: directory,
      stdinFd: undefined,
      stdoutFd: undefined,
      stderrFd: sink,
    });
    for (;;) {
      const status = reapPid(pid);
      if (status !== undefined) return status.kind === "code" ? String(status.code) : status.signal;
      await once(process, "SIGCHLD");
    }
  } catch (error) {
    assert.ok(error instanceof SystemCallError, String(error));
    return error.code;
  }
}

const trueScript = program("#!/bin/sh\nexit 0\n");

test("an executable that can start has no problem, in every form of the #! line", async () => {
  for (const text of [
    "#!/bin/sh\nexit 0\n",
    "#! \t/bin/sh -e \t\nexit 0\n",
    "#!/bin/sh\n",
    "#!/usr/bin/env sh\nexit 0\n",
    "#!/usr/bin/env -S sh -e\nexit 0\n",
    "#!/usr/bin/env -S -i A=1 sh -e\nexit 0\n",
    // A script as the interpreter of a script.
    `#!${trueScript}\n`,
    // Relative to the directory of the worker.
    "#!./program0\n",
  ]) {
    const file = program(text);
    assert.equal(problemOf(file), undefined, text);
    assert.equal(await verdict(file), "0", text);
  }
  assert.equal(problemOf("/bin/true"), undefined);
  assert.equal(problemOf(process.execPath), undefined);
});

for (const [what, text, pattern, kernel] of [
  [
    "a missing interpreter",
    "#!/usr/bin/python3.0\n",
    /needs the interpreter "\/usr\/bin\/python3\.0" \(its #! line\), which does not exist/u,
    "ENOENT",
  ],
  ["an interpreter that is not a file", "#!/usr\n", /"\/usr" \(its #! line\), which is not a file/u, "EACCES"],
  ["an interpreter that may not be executed", "#!/etc/passwd\n", /which may not be executed/u, "EACCES"],
  ["Windows line ends", "#!/bin/sh\r\nexit 0\r\n", /Windows line ends/u, "ENOENT"],
  ["Windows line ends after env", "#!/usr/bin/env sh\r\nexit 0\r\n", /Windows line ends/u, "127"],
  [
    "a program that env does not find",
    "#!/usr/bin/env python3.0\n",
    /needs "python3\.0" \(its #! line starts it through env\), which is not on the worker's PATH/u,
    "127",
  ],
  ["a program that env -S does not find", "#!/usr/bin/env -S A=1 ruby3.0 -w\n", /needs "ruby3\.0"/u, "127"],
  ["options without -S", "#!/usr/bin/env sh -e\n", /needs "sh -e"/u, "127"],
  ["no #! line", "echo hello\n", /is neither a program nor a script with a #! line/u, "ENOEXEC"],
  ["an empty file", "", /is neither a program nor a script/u, "ENOEXEC"],
  ["a #! line without a name", "#! \n", /names no interpreter/u, "ENOEXEC"],
  ["a name that is longer than the kernel reads", `#!/${"x".repeat(300)}\n`, /names no interpreter/u, "ENOEXEC"],
] as const) {
  test(`${what} is reported, and the kernel refuses it too`, async () => {
    const file = program(text);
    assert.match(problemOf(file) ?? "", pattern);
    assert.equal(await verdict(file), kernel);
  });
}

test("the interpreter of an interpreter is followed, and named with the script that needs it", async () => {
  const inner = program("#!/no/such/interpreter\n");
  const outer = program(`#!${inner}\n`);
  assert.match(problemOf(outer) ?? "", new RegExp(`^needs "${inner}", which needs the interpreter "/no/such/`, "u"));
  assert.equal(await verdict(outer), "ENOENT");
});

test("a chain of interpreters is a problem only if it is longer than the kernel allows", async () => {
  let file = trueScript;
  const verdicts: [string, boolean][] = [];
  for (let depth = 0; depth < 8; depth++) {
    file = program(`#!${file}\n`);
    verdicts.push([await verdict(file), problemOf(file) === undefined]);
  }
  assert.deepEqual(
    verdicts.map(([kernel]) => kernel === "0"),
    verdicts.map(([, isFine]) => isFine),
    JSON.stringify(verdicts),
  );
  assert.ok(verdicts.some(([kernel]) => kernel === "ELOOP"));
});

test("a program whose dynamic loader is missing names the loader", async () => {
  const copy = program("");
  copyFileSync("/bin/true", copy);
  const bytes = readFileSync(copy);
  const at = bytes.indexOf("/lib");
  const loader = bytes.toString("latin1", at, bytes.indexOf(0, at));
  bytes.write(loader.replace("/lib", "/musl").slice(0, loader.length), at, "latin1");
  const file = program(bytes);
  assert.match(problemOf(file) ?? "", /^needs the dynamic loader "\/musl\S*", which does not exist$/u);
  assert.equal(await verdict(file), "ENOENT");
  assert.match(findProgramProblem(file, { cwd: "/", path: PATH })?.hint ?? "", /musl/u);
});

test("a program for another machine is reported, and so is a damaged one", async () => {
  const bytes = readFileSync("/bin/true");
  bytes.writeUInt16LE(22, 18);
  const foreign = program(bytes);
  assert.match(problemOf(foreign) ?? "", /^is a program for s390x, and this machine is (?:x86_64|aarch64)$/u);
  assert.equal(await verdict(foreign), "ENOEXEC");
  const cut = program(readFileSync("/bin/true").subarray(0, 20));
  assert.match(problemOf(cut) ?? "", /damaged/u);
  assert.equal(await verdict(cut), "ENOEXEC");
});

test("the #! line is parsed as the kernel does", async () => {
  const parse = (text: string) => parseInterpreterLine(Buffer.from(text));
  assert.deepEqual(parse("#!/bin/sh\n"), { interpreter: "/bin/sh", argument: undefined });
  assert.deepEqual(parse("#!  /a/b  c d \t\nrest"), { interpreter: "/a/b", argument: "c d" });
  assert.deepEqual(parse("#!/bin/sh"), undefined, "cut off: the name may go on");
  assert.deepEqual(parse("#!/bin/sh -x"), { interpreter: "/bin/sh", argument: "-x" });
  assert.deepEqual(parse("#!\n"), undefined);
  assert.deepEqual(parse("#!/bin/sh\0/more\n"), { interpreter: "/bin/sh", argument: undefined });
});

test("the program that env starts is found after its options, and unknown if env must interpret it", async () => {
  for (const [argument, expected] of [
    ["python3", "python3"],
    ["python3 -u", "python3 -u"],
    ["-S python3 -u", "python3"],
    ["-Spython3", "python3"],
    ["-iS A=b python3", "python3"],
    ["--split-string=node --no-warnings", "node"],
    ["-S -i - X=1 node", "node"],
    ["-S 'my program'", undefined],
    ["-S $HOME/x", undefined],
    ["-S PATH=/x node", undefined],
    ["-S -u A node", undefined],
    ["-S", undefined],
    ["-i", undefined],
    ["A=1", undefined],
  ] as const)
    assert.equal(parseEnvArgument(argument), expected, argument);
});

test("enabled formats of binfmt_misc are matched by magic and mask, or by extension", async () => {
  const qemu = "enabled\ninterpreter /usr/bin/qemu-s390x-static\nflags: OCF\noffset 0\nmagic 7f454c46\nmask ffffff0f\n";
  const head = Buffer.from("7f454cf6", "hex");
  assert.equal(matchesFormat(qemu, "x", head), true);
  assert.equal(matchesFormat(qemu.replace("enabled", "disabled"), "x", head), false);
  assert.equal(matchesFormat(qemu, "x", Buffer.from("7f454df6", "hex")), false);
  assert.equal(matchesFormat("enabled\ninterpreter /usr/bin/java\nflags:\nextension .jar\n", "a.jar", head), true);
  assert.equal(matchesFormat("enabled\ninterpreter /usr/bin/java\nflags:\nextension .jar\n", "a.exe", head), false);
});

test("the header of an ELF file is read in both sizes and byte orders", async () => {
  const big32 = Buffer.alloc(52);
  big32.set([0x7f, 0x45, 0x4c, 0x46, 1, 2]);
  big32.writeUInt16BE(21, 18);
  big32.writeUInt32BE(52, 28);
  big32.writeUInt16BE(32, 42);
  big32.writeUInt16BE(2, 44);
  assert.deepEqual(parseElfHeader(big32), {
    machine: "ppc64",
    is64: false,
    isLittleEndian: false,
    programHeaders: { offset: 52, entryBytes: 32, count: 2 },
  });
});
