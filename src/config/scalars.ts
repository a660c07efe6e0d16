/** Kinds of single values: text, numbers, durations, sizes and a few that serve only one key. */
import { formatDuration, formatSize, parseDuration, parseSize } from "../base/units.ts";
import { MAX_REPLICAS, type Share } from "../core/spec.ts";
import { booleanHint, durationHint, pathHint, signalHint, sizeHint } from "./hints.ts";
import { describe, type JsonSchema, type Kind, type Plain } from "./kind.ts";
import type { Place, Reader, ScalarText } from "./reader.ts";
import { commandLineOf, shellWords } from "./shellWords.ts";
import { parseTemplate, type Template, templateSource } from "./template.ts";
import type { TreeNode } from "./tree.ts";

/** Values other than text are short; longer input is rejected before a regular expression sees it. */
const MAX_SCALAR_LENGTH = 64;

interface ScalarOptions<T> {
  readonly label: string;
  readonly expected: string;
  readonly schema: JsonSchema;
  /** Parses a text; `plain` is false for quoted text, `isReplaced` true if a variable was substituted. */
  parse(text: string, plain: boolean, isReplaced: boolean): T | undefined;
  show(value: T): Plain;
  /** Suggests what to write instead of an invalid text. */
  readonly hint?: (text: string, plain: boolean) => string | undefined;
}

export function scalar<T>({ label, expected, schema, parse, show, hint }: ScalarOptions<T>): Kind<T> {
  return {
    label,
    expected,
    read(node, place, reader) {
      const read = node.kind === "scalar" ? reader.scalarText(node, place) : undefined;
      if (node.kind === "scalar" && read === undefined) return undefined;
      const value =
        read === undefined || read.text.length > MAX_SCALAR_LENGTH
          ? undefined
          : parse(read.text, read.plain, read.isReplaced);
      if (value === undefined) {
        const instead = read?.isReplaced === false ? hint?.(read.text, read.plain) : undefined;
        // If the hint equals the input, the value is only out of range.
        const isHelp = instead !== undefined && instead !== `write ${read?.text}`;
        const got = `${describe(node, read)}${isHelp ? ` (${instead})` : ""}`;
        reader.problem(place, `expected ${expected}, got ${got}`);
      }
      return value;
    },
    show,
    jsonSchema: () => ({ anyOf: [schema, { $ref: "#/$defs/variable" }] }),
  };
}

interface TextOptions {
  readonly label?: string;
  /** Completes "expected …". */
  readonly expected?: string;
  readonly pattern?: RegExp;
  /** Whether "" is allowed. */
  readonly empty?: boolean;
  /** Whether it is a file path, or a program that may be given by path. */
  readonly isPath?: boolean;
}

/** Text exactly as written: numbers and booleans keep their source (`0x10`, `1.50`, `true`). */
export function text(options: TextOptions = {}): Kind<string> {
  const { label = "string", pattern, empty = false, isPath = options.label === "path" } = options;
  const expected = options.expected ?? (empty ? "a string" : "a string that is not empty");
  return {
    label,
    expected,
    read(node, place, reader) {
      const read = readText(node, place, reader, expected);
      if (read === undefined) return undefined;
      let wrong: string | undefined;
      if ((read.text === "" && !empty) || pattern?.test(read.text) === false)
        wrong = `expected ${expected}, got ${describe(node, { ...read, plain: false })}`;
      else if (!read.text.isWellFormed()) wrong = "expected UTF-8, got a variable whose value is not";
      else if (isPath) wrong = pathHint(read.text);
      if (wrong !== undefined) reader.problem(place, wrong);
      return wrong === undefined ? read.text : undefined;
    },
    show: withDollars,
    jsonSchema: () => ({
      type: ["string", "number", "boolean"],
      // Patterns are for the text after substitution, so an editor must not apply them to "${NAME}".
      ...(pattern === undefined ? {} : { pattern: `(?:${pattern.source})|\\$` }),
    }),
  };
}

/** The path of a file or directory. */
export const path: Kind<string> = text({ label: "path" });

/** The text of a scalar that can be passed to a process: no zero bytes, and UTF-8 if it comes from the file. */
function readText(node: TreeNode, place: Place, reader: Reader, expected: string): ScalarText | undefined {
  if (node.kind !== "scalar") {
    const hint = node.kind === "null" ? ' (write "" for an empty string)' : "";
    reader.problem(place, `expected ${expected}, got ${describe(node)}${hint}`);
    return undefined;
  }
  const read = reader.scalarText(node, place);
  if (read === undefined) return undefined;
  let wrong: string | undefined;
  if (read.text.includes("\0")) wrong = "expected text without zero bytes";
  else if (!node.text.isWellFormed())
    wrong = "expected valid Unicode, got half of a surrogate pair (\\ud800 to \\udfff)";
  if (wrong === undefined) return read;
  reader.problem(place, wrong);
  return undefined;
}

/** Escapes each dollar as "$$", reversing variable substitution. */
function withDollars(text: string): string {
  return text.replaceAll("$", () => "$$");
}

/** Text that may contain `{{.Name}}` templates. The values of variables in it may be any bytes (osText.ts). */
export const templated: Kind<Template> = {
  label: "string",
  expected: "a string",
  read(node, place, reader) {
    const read = readText(node, place, reader, this.expected);
    if (read === undefined) return undefined;
    const parsed = parseTemplate(read.pieces);
    if (!parsed.ok) reader.problem(place, parsed.message);
    return parsed.ok ? parsed.template : undefined;
  },
  show: (value) => withDollars(templateSource(value)),
  jsonSchema: () => ({ type: ["string", "number", "boolean"] }),
};

/** A command line in shell words (shellWords.ts); the first word is the program. */
export const commandLine: Kind<readonly Template[]> = {
  label: "shell words",
  expected: "a command line",
  read(node, place, reader) {
    const read = readText(node, place, reader, this.expected);
    if (read === undefined) return undefined;
    const result = shellWords(read.pieces);
    const wrong = result.ok ? wrongProgram(result.words) : result.message;
    if (wrong !== undefined) reader.problem(place, wrong);
    return result.ok && wrong === undefined ? result.words : undefined;
  },
  show: (words) => withDollars(commandLineOf(words)),
  jsonSchema: () => ({ type: "string" }),
};

function wrongProgram([program]: readonly Template[]): string | undefined {
  if (program === undefined || program.length === 0)
    return "expected a program and its arguments, got an empty command";
  const [first] = program;
  if (typeof first !== "string" || program.length > 1) return "expected a program as the first word, got a template";
  const variable = /^([A-Za-z_][A-Za-z0-9_]*)=/u.exec(first)?.[1];
  if (variable !== undefined) return `the first word sets a variable; write env: {${variable}: …}`;
  return first.isWellFormed() ? undefined : "expected UTF-8, got a variable whose value is not";
}

/** An absolute path on the worker's port, such as "/healthz". */
export const urlPath: Kind<string> = text({
  label: "path",
  isPath: false,
  expected: 'a path that begins with "/"',
  pattern: /^\/[^\s\u0000-\u001f]*$/u,
});

/** One of `values`; with `ignoreCase` in any case. */
export function oneOf<const T extends string>(values: readonly T[], options: { ignoreCase?: boolean } = {}): Kind<T> {
  return scalar<T>({
    label: values.join(" | "),
    expected: `one of ${values.join(", ")}`,
    schema: { enum: values },
    parse: (value) =>
      values.find((known) => known === value || (options.ignoreCase === true && known === value.toUpperCase())),
    show: (value) => value,
  });
}

export const boolean: Kind<boolean> = scalar<boolean>({
  hint: booleanHint,
  label: "boolean",
  expected: "true or false",
  schema: { type: "boolean" },
  parse: (value, plain) => {
    if (!plain) return undefined;
    if (/^(?:true|True|TRUE)$/u.test(value)) return true;
    return /^(?:false|False|FALSE)$/u.test(value) ? false : undefined;
  },
  show: (value) => value,
});

/** A whole number, decimal, `0x…` or `0o…`. */
export function integer(min: number, max: number = Number.MAX_SAFE_INTEGER): Kind<number> {
  return scalar<number>({
    label: rangeLabel("integer", min, max),
    expected: rangeText("a whole number", min, max),
    schema: { type: "integer", ...rangeSchema(min, max) },
    parse: (value, plain) => (plain ? parseInteger(value, min, max) : undefined),
    show: (value) => value,
  });
}

/** A number with or without a fraction. */
export function number(min: number, max: number = Number.MAX_VALUE): Kind<number> {
  return scalar<number>({
    label: rangeLabel("number", min, max),
    expected: rangeText("a number", min, max),
    schema: { type: "number", ...rangeSchema(min, max) },
    parse: (value, plain) => {
      if (!plain || !/^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$/u.test(value)) return undefined;
      const parsed = Number(value);
      return parsed >= min && parsed <= max ? parsed + 0 : undefined;
    },
    show: (value) => value,
  });
}

/** Whether 0 stands for an absent value. */
export const isZero = (value: number): boolean => value === 0;

/** What an absent port means where a worker may have its own. */
export const OWN_PORT = "the worker's";

/** A port; with `min` 0 the kernel may choose. */
export function port(min: 0 | 1): Kind<number> {
  return integer(min, 65_535);
}

/** A number from `min` to `max`, or `word`. */
export function integerOr<const W extends string>(
  word: W,
  min: number,
  max: number = Number.MAX_SAFE_INTEGER,
  hint?: (text: string) => string | undefined,
): Kind<number | W> {
  return scalar<number | W>({
    ...(hint === undefined ? {} : { hint }),
    label: `integer | ${word}`,
    expected: `${rangeText("a whole number", min, max)}, or "${word}"`,
    schema: { anyOf: [{ type: "integer", ...rangeSchema(min, max) }, { const: word }] },
    parse: (value, plain) => (value === word ? word : plain ? parseInteger(value, min, max) : undefined),
    show: (value) => value,
  });
}

/** Milliseconds, at least `minMs`. */
export function duration(minMs = 0): Kind<number> {
  return scalar<number>({
    hint: durationHint,
    label: "duration",
    expected: `a duration such as "15s"${minMs > 0 ? `, at least ${formatDuration(minMs)}` : ""}`,
    schema: { anyOf: [{ type: "string", pattern: "^\\+?([0-9.]+(ns|us|µs|μs|ms|s|m|h))+$|^0$" }, { const: 0 }] },
    parse: (value) => {
      const ms = parseDuration(value);
      return ms !== undefined && ms >= minMs && Number.isFinite(ms) ? ms + 0 : undefined;
    },
    show: (ms) => formatDuration(ms),
  });
}

/** Bytes, at least `min`, at most `max`. */
export function size(min = 0, max: number = Number.MAX_SAFE_INTEGER): Kind<number> {
  const range = `${min > 0 ? ` of at least ${formatSize(min)}` : ""}${max < Number.MAX_SAFE_INTEGER ? ` and at most ${formatSize(max)}` : ""}`;
  return scalar<number>({
    hint: sizeHint,
    label: "size",
    expected: `a size${range} such as "512MiB"`,
    schema: {
      anyOf: [
        { type: "integer", minimum: 0 },
        { type: "string", pattern: "^[0-9.]+ *([KMGT]i?B|[KMGT]i|B)?$" },
      ],
    },
    parse: (value) => {
      const bytes = parseSize(value);
      return bytes !== undefined && bytes >= min && bytes <= max ? bytes : undefined;
    },
    show: (bytes) => formatSize(bytes),
  });
}

/** A size of at least `min`, or a word. */
export function sizeOr<const W extends string>(word: W, min: number): Kind<number | W> {
  const bytes = size(min);
  return scalar<number | W>({
    hint: sizeHint,
    label: `size | ${word}`,
    expected: `${bytes.expected}, or "${word}"`,
    schema: {
      anyOf: [
        { type: "integer", minimum: 0 },
        { type: "string", pattern: "^[0-9.]+ *([KMGT]i?B|[KMGT]i|B)?$" },
        { const: word },
      ],
    },
    parse: (value) => {
      if (value === word) return word;
      const parsed = parseSize(value);
      return parsed !== undefined && parsed >= min ? parsed : undefined;
    },
    show: (value) => (value === word ? word : formatSize(value as number)),
  });
}

export const share: Kind<Share> = scalar<Share>({
  label: "integer | percentage",
  expected: 'a whole number of workers or a percentage such as "25%"',
  schema: {
    anyOf: [
      { type: "integer", minimum: 0 },
      { type: "string", pattern: "^[0-9]+(\\.[0-9]+)?%$" },
    ],
  },
  parse: (value, plain) => {
    const percent = /^(\d+(?:\.\d+)?)%$/u.exec(value)?.[1];
    if (percent === undefined) return plain ? parseInteger(value, 0, MAX_REPLICAS) : undefined;
    return Number(percent) <= 100 ? { percent: Number(percent) } : undefined;
  },
  show: (value) => (typeof value === "number" ? value : `${value.percent}%`),
});

/** File mode bits; digits are octal, with or without a leading 0. */
export const umask: Kind<number> = scalar<number>({
  label: "octal",
  expected: 'octal digits such as "022"',
  schema: { anyOf: [{ type: "integer" }, { type: "string", pattern: "^(0o|0)?[0-7]{1,3}$" }] },
  parse: (value) => {
    const digits = /^(?:0o|0)?([0-7]{1,3})$/u.exec(value)?.[1];
    return digits === undefined ? undefined : Number.parseInt(digits, 8);
  },
  show: (value) => value.toString(8).padStart(3, "0"),
});

// The signals of signal(7) on Linux. SIGSTOP is left out: a stopped process never exits.
const SIGNALS: readonly string[] = [
  ..."HUP INT QUIT ILL TRAP ABRT IOT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT TSTP TTIN".split(" "),
  ..."TTOU URG XCPU XFSZ VTALRM PROF WINCH IO POLL PWR SYS".split(" "),
];

/** The name of a signal, `SIGTERM` or `TERM` in any case. */
export const signalName: Kind<string> = scalar<string>({
  hint: signalHint,
  label: "signal",
  expected: 'a signal that can end a process, such as "SIGTERM"',
  schema: { type: "string" },
  parse: (value) => {
    const short = value.toUpperCase().replace(/^SIG/u, "");
    return SIGNALS.includes(short) ? `SIG${short}` : undefined;
  },
  show: (value) => value,
});

export function parseInteger(text: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number | undefined {
  if (!/^(?:[-+]?\d+|0x[\da-fA-F]+|0o[0-7]+)$/u.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) && value >= min && value <= max ? value + 0 : undefined;
}

function rangeText(what: string, min: number, max: number): string {
  if (max < Number.MAX_SAFE_INTEGER) return `${what} from ${min} to ${max}`;
  return min <= -Number.MAX_SAFE_INTEGER ? what : `${what} of at least ${min}`;
}

function rangeLabel(what: string, min: number, max: number): string {
  if (max < Number.MAX_SAFE_INTEGER) return `${what} ${min} … ${max}`;
  return min <= -Number.MAX_SAFE_INTEGER ? what : `${what} ≥ ${min}`;
}

function rangeSchema(min: number, max: number): JsonSchema {
  return {
    ...(min > -Number.MAX_SAFE_INTEGER ? { minimum: min } : {}),
    ...(max < Number.MAX_SAFE_INTEGER ? { maximum: max } : {}),
  };
}
