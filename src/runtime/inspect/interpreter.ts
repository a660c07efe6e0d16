/**
 * Finds what the kernel needs to start an executable besides the file itself: the interpreter of its #! line, the
 * program that env(1) looks up, the dynamic loader of an ELF file. If one is missing, execve(2) fails with a bare
 * ENOENT or the process exits at once with 127. Follows fs/binfmt_script.c, fs/binfmt_elf.c and env(1) of coreutils.
 */
import { accessSync, constants, statSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { codeOf } from "../../base/errors.ts";
import { listNames, readAt, readText } from "../os/procFile.ts";

/** Bytes of a file that the kernel looks at (BINPRM_BUF_SIZE). */
const HEAD_BYTES = 256;

/** Maximum length of a chain of interpreter scripts; beyond it the kernel fails with ELOOP. */
const MAX_DEPTH = 5;

/** The search path of execvp(3) if PATH is not set. */
const DEFAULT_PATH = "/bin:/usr/bin";

const PT_INTERP = 3;
const MAX_INTERP_BYTES = 4096;
const MAX_TABLE_BYTES = 1 << 20;

/** e_machine of ELF files by the names that uname(1) uses. */
const MACHINES: ReadonlyMap<number, string> = new Map([
  [3, "i386"],
  [21, "ppc64"],
  [22, "s390x"],
  [40, "arm"],
  [62, "x86_64"],
  [183, "aarch64"],
  [243, "riscv64"],
]);

/** What this machine's kernel runs. 32-bit support depends on the kernel build and shows only when a program starts. */
const OWN_MACHINES: readonly string[] = process.arch === "arm64" ? ["aarch64", "arm"] : ["x86_64", "i386"];

/** Why an executable cannot be started. */
export interface ProgramProblem {
  /** missing: something that it needs does not exist. format: the kernel does not know how to run it. */
  readonly kind: "missing" | "format";
  /** A sentence part about the executable: `needs the interpreter "/usr/bin/python3.9", which does not exist`. */
  readonly text: string;
  readonly hint: string | undefined;
}

interface StartContext {
  /** The worker's directory: relative interpreters are looked up there. */
  readonly cwd: string;
  /** The worker's PATH, for env(1). */
  readonly path: string | undefined;
}

/** Why `file`, which exists and is executable, cannot be started; undefined if no reason is found. */
export function findProgramProblem(file: string, context: StartContext, depth = 0): ProgramProblem | undefined {
  const head = readAt(file, 0, HEAD_BYTES);
  // Executable but not readable by the controller. The kernel can read it, so nothing is known here.
  if (head === undefined) return undefined;
  if (head.subarray(0, 2).toString("latin1") === "#!") return scriptProblem(file, head, context, depth);
  if (head.subarray(0, 4).toString("latin1") === "\x7fELF") return elfProblem(file, head);
  if (isRegisteredFormat(file, head)) return undefined;
  return {
    kind: "format",
    text: "is neither a program nor a script with a #! line, so the kernel cannot run it",
    hint: 'Add a first line such as "#!/bin/sh", or set exec to the interpreter and pass the file in args.',
  };
}

function scriptProblem(file: string, head: Buffer, context: StartContext, depth: number): ProgramProblem | undefined {
  if (depth >= MAX_DEPTH)
    return { kind: "format", text: "has a chain of interpreters that is too long", hint: undefined };
  const line = parseInterpreterLine(head);
  if (line === undefined) return { kind: "format", text: "has a #! line that names no interpreter", hint: undefined };
  const { interpreter, argument } = line;
  const subject = depth === 0 ? "" : `needs "${file}", which `;
  if (interpreter.endsWith("\r") || argument?.endsWith("\r") === true) {
    return {
      kind: "missing",
      text: `${subject}has Windows line ends (CRLF): the kernel looks for an interpreter whose name ends with a carriage return`,
      hint: `sed -i 's/\\r$//' ${file}`,
    };
  }
  const path = resolve(context.cwd, interpreter);
  const missing = absence(path);
  if (missing !== undefined)
    return {
      kind: "missing",
      text: `${subject}needs the interpreter "${interpreter}" (its #! line), which ${missing}`,
      hint: "Install it, or correct the first line of the script.",
    };
  const wanted = basename(interpreter) === "env" && argument !== undefined ? parseEnvArgument(argument) : undefined;
  if (wanted !== undefined) return envProblem(wanted, argument ?? "", subject, context);
  return findProgramProblem(path, context, depth + 1);
}

/** Parses a #! line like fs/binfmt_script.c: an interpreter, and everything after it as one argument. Pure. */
export function parseInterpreterLine(
  head: Buffer,
): { readonly interpreter: string; readonly argument: string | undefined } | undefined {
  const text = head.toString("latin1", 2);
  const end = text.search(/[\n\0]/u);
  // Without an end of line, the name may be truncated and must not be mistaken for another.
  if (end < 0 && !/^[ \t]*[^ \t]+[ \t]/u.test(text)) return undefined;
  const line = Buffer.from(end < 0 ? text : text.slice(0, end), "latin1").toString("utf8");
  const match = /^[ \t]*([^ \t]+)[ \t]*(.*?)[ \t]*$/su.exec(line);
  const interpreter = match?.[1];
  if (interpreter === undefined) return undefined;
  return { interpreter, argument: match?.[2] === "" ? undefined : match?.[2] };
}

/**
 * The program that env(1) would start with its one argument from a #! line; undefined if unknown: quotes, variables and
 * rare options of -S are not interpreted here. Pure.
 */
export function parseEnvArgument(argument: string): string | undefined {
  const split = /^(?:-[iv0]*S|--split-string(?:=|\s))\s*(.*)$/su.exec(argument)?.[1];
  // Without -S everything is the name of one program, blanks included.
  if (split === undefined) return argument.startsWith("-") || argument.includes("=") ? undefined : argument;
  if (/["'\\$#]/u.test(split)) return undefined;
  const words = split.split(/\s+/u).filter((word) => word !== "");
  for (const word of words) {
    if (word.startsWith("-")) {
      if (word === "-" || word === "-i" || word === "--ignore-environment") continue;
      return undefined;
    }
    if (!word.includes("=")) return word;
    // env searches this PATH instead.
    if (word.startsWith("PATH=")) return undefined;
  }
  return undefined;
}

function envProblem(
  program: string,
  argument: string,
  subject: string,
  { cwd, path }: StartContext,
): ProgramProblem | undefined {
  const isFound = program.includes("/")
    ? absence(resolve(cwd, program)) === undefined
    : (path ?? DEFAULT_PATH)
        .split(":")
        .some((directory) => absence(join(resolve(cwd, directory), program)) === undefined);
  if (isFound) return undefined;
  const isPhrase = /\s/u.test(program);
  return {
    kind: "missing",
    text: `${subject}needs "${program}" (its #! line starts it through env), which is not on the worker's PATH (${path ?? DEFAULT_PATH})`,
    hint: isPhrase
      ? `The kernel passes everything after env as one name: write "env -S ${argument}".`
      : "Install it, or set PATH in the pool's env.",
  };
}

/** Why a file cannot serve as an interpreter; undefined if it can. */
function absence(path: string): string | undefined {
  try {
    if (!statSync(path).isFile()) return "is not a file";
  } catch (error) {
    const code = codeOf(error);
    return code === "ENOENT" || code === "ENOTDIR" ? "does not exist" : "cannot be reached";
  }
  try {
    accessSync(path, constants.X_OK);
    return undefined;
  } catch {
    return "may not be executed";
  }
}

function elfProblem(file: string, head: Buffer): ProgramProblem | undefined {
  const header = parseElfHeader(head);
  if (header === undefined) return { kind: "format", text: "is a damaged program (ELF)", hint: undefined };
  const { machine } = header;
  if (machine !== undefined && !OWN_MACHINES.includes(machine)) {
    if (isRegisteredFormat(file, head)) return undefined;
    return {
      kind: "format",
      text: `is a program for ${machine}, and this machine is ${OWN_MACHINES[0]}`,
      hint: "Use a build or an image for this platform.",
    };
  }
  const loader = readLoader(file, header);
  const missing = loader === undefined ? undefined : absence(loader);
  if (missing === undefined) return undefined;
  return {
    kind: "missing",
    text: `needs the dynamic loader "${loader}", which ${missing}`,
    hint:
      loader?.includes("musl") === true
        ? "It was built for musl (Alpine); this system has a different C library."
        : "It was built for a different C library or distribution.",
  };
}

interface ElfHeader {
  /** Name of the architecture; undefined if unknown. */
  readonly machine: string | undefined;
  readonly is64: boolean;
  readonly isLittleEndian: boolean;
  readonly programHeaders: { readonly offset: number; readonly entryBytes: number; readonly count: number };
}

/** Parses the header of an ELF file (elf(5)); undefined if it is truncated. Pure. */
export function parseElfHeader(head: Buffer): ElfHeader | undefined {
  const is64 = head[4] === 2;
  const isLittleEndian = head[5] === 1;
  if (head.length < (is64 ? 64 : 52)) return undefined;
  const half = (at: number) => (isLittleEndian ? head.readUInt16LE(at) : head.readUInt16BE(at));
  const word = (at: number) => (isLittleEndian ? head.readUInt32LE(at) : head.readUInt32BE(at));
  const long = (at: number) => Number(isLittleEndian ? head.readBigUInt64LE(at) : head.readBigUInt64BE(at));
  const programHeaders = is64
    ? { offset: long(32), entryBytes: half(54), count: half(56) }
    : { offset: word(28), entryBytes: half(42), count: half(44) };
  return { machine: MACHINES.get(half(18)), is64, isLittleEndian, programHeaders };
}

/** The dynamic loader that a program names (PT_INTERP); undefined if it needs none. */
function readLoader(file: string, { is64, isLittleEndian, programHeaders }: ElfHeader): string | undefined {
  const { offset, entryBytes, count } = programHeaders;
  const table = readAt(file, offset, Math.min(entryBytes * count, MAX_TABLE_BYTES));
  if (table === undefined || !isLittleEndian) return undefined;
  for (let at = 0; at + entryBytes <= table.length && entryBytes >= (is64 ? 56 : 32); at += entryBytes) {
    if (table.readUInt32LE(at) !== PT_INTERP) continue;
    const start = is64 ? Number(table.readBigUInt64LE(at + 8)) : table.readUInt32LE(at + 4);
    const bytes = is64 ? Number(table.readBigUInt64LE(at + 32)) : table.readUInt32LE(at + 16);
    return readAt(file, start, Math.min(bytes, MAX_INTERP_BYTES))?.toString("utf8").replace(/\0.*$/su, "");
  }
  return undefined;
}

/** Whether binfmt_misc has an interpreter for this file, such as QEMU for other architectures. */
function isRegisteredFormat(file: string, head: Buffer): boolean {
  const directory = "/proc/sys/fs/binfmt_misc";
  const names = listNames(directory).filter((name) => name !== "register" && name !== "status");
  return names.some((name) => matchesFormat(readText(join(directory, name)) ?? "", file, head));
}

/** Whether a binfmt_misc entry matches this file. Pure. */
export function matchesFormat(entry: string, file: string, head: Buffer): boolean {
  if (!entry.startsWith("enabled")) return false;
  const extension = /^extension \.(.+)$/mu.exec(entry)?.[1];
  if (extension !== undefined) return file.endsWith(`.${extension}`);
  const magic = Buffer.from(/^magic ([0-9a-f]+)$/mu.exec(entry)?.[1] ?? "", "hex");
  const mask = Buffer.from(/^mask ([0-9a-f]+)$/mu.exec(entry)?.[1] ?? "", "hex");
  const offset = Number(/^offset (\d+)$/mu.exec(entry)?.[1] ?? 0);
  if (magic.length === 0 || head.length < offset + magic.length) return false;
  return magic.every((byte, at) => (((head[offset + at] ?? 0) ^ byte) & (mask[at] ?? 0xff)) === 0);
}
