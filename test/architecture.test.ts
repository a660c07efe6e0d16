import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { test } from "node:test";

interface Rule {
  /** Folders of src that may be imported. */
  readonly folders: readonly string[];
  /** What may be imported from elsewhere. */
  readonly packages: RegExp;
}

const NOTHING = /^$/u;
const NODE = /^node:/u;

/** Who may import whom; "" is src itself. docs/architecture.md explains why. */
const RULES: Readonly<Record<string, Rule>> = {
  "": { folders: ["", "base", "cli"], packages: NODE },
  base: { folders: ["base"], packages: NOTHING },
  core: { folders: ["base", "core"], packages: NOTHING },
  config: { folders: ["base", "core", "config"], packages: /^yaml$/u },
  files: { folders: ["base", "files"], packages: NODE },
  runtime: { folders: ["base", "core", "files", "runtime"], packages: NODE },
  logs: { folders: ["base", "core", "logs"], packages: NODE },
  metrics: { folders: ["base", "core", "metrics"], packages: NOTHING },
  profile: { folders: ["profile"], packages: NOTHING },
  programs: { folders: ["base", "programs"], packages: NOTHING },
  envoy: { folders: ["base", "files", "envoy"], packages: NODE },
  admin: { folders: ["base", "core", "files", "admin"], packages: NODE },
  controller: {
    folders: [
      "base",
      "core",
      "config",
      "files",
      "runtime",
      "logs",
      "metrics",
      "profile",
      "programs",
      "envoy",
      "admin",
      "controller",
    ],
    packages: NODE,
  },
  cli: {
    folders: [
      "base",
      "core",
      "config",
      "files",
      "runtime",
      "logs",
      "metrics",
      "programs",
      "envoy",
      "admin",
      "cli",
      "controller",
    ],
    packages: NODE,
  },
};

/** The only files outside runtime/ and controller/ that may know runtime/: who answers the command line. */
const KNOW_RUNTIME = ["cli/connectController.ts"];

/** Modules that one file alone may import, or none. */
const CONFINED: Readonly<Record<string, readonly string[]>> = {
  "node:ffi": ["runtime/os/linux.ts", "runtime/os/peerCredentials.ts", "exitNow.ts"],
  "node:child_process": [],
  "node:cluster": [],
  "node:worker_threads": [],
};

/** Pure files in folders that otherwise touch the system, and what they may import of Node.js. */
const PURE: Readonly<Record<string, RegExp>> = {
  "logs/jsonLine.ts": NOTHING,
  "logs/level.ts": NOTHING,
  "logs/annotate.ts": /^node:buffer$/u,
  "files/trust.ts": NOTHING,
  "envoy/resources/settings.ts": NOTHING,
  "envoy/resources/bootstrap.ts": NOTHING,
  "envoy/resources/listener.ts": NOTHING,
  "envoy/resources/cluster.ts": NOTHING,
  "envoy/resources/endpoints.ts": NOTHING,
  "envoy/resources/json.ts": NOTHING,
  "envoy/resources/files.ts": NOTHING,
  "envoy/control/commandLine.ts": NOTHING,
  "envoy/reading/adminAnswers.ts": NOTHING,
  "envoy/reading/requestCounts.ts": NOTHING,
  "envoy/reading/readings.ts": NOTHING,
  "envoy/reading/drains.ts": NOTHING,
  "envoy/reading/activations.ts": NOTHING,
  "envoy/reading/resourceStates.ts": NOTHING,
  "envoy/reading/oldClusterRequests.ts": NOTHING,
};

/** Globals that decisions must not use: time, randomness, the process, asynchronous waiting. */
const FORBIDDEN_IN_CORE =
  /(?<![.\w])(?:Date|performance|Temporal|setTimeout|setInterval|setImmediate|queueMicrotask|process|console|globalThis|crypto|fetch|async|await|Promise)\b|\bMath\.random\b/gu;

/** Source text in which comments and string contents are replaced by blanks. */
interface Source {
  readonly code: string;
  /** Strings by the offset of their opening quote. */
  readonly strings: ReadonlyMap<number, string>;
}

function readSource(text: string): Source {
  const strings = new Map<number, string>();
  const braces: ("template" | "block")[] = [];
  let code = "";
  let at = 0;
  const keep = (length: number) => {
    code += text.slice(at, at + length);
    at += length;
  };
  const blank = (length: number) => {
    code += text.slice(at, at + length).replaceAll(/[^\n]/gu, " ");
    at += length;
  };
  const skipTo = (end: RegExp) => {
    end.lastIndex = at;
    blank((end.exec(text)?.index ?? text.length) - at);
  };
  const template = () => {
    skipTo(/(?<!\\)(?:\\\\)*(?:`|\$\{)/gu);
    while (text[at] === "\\") blank(1);
    if (text[at] === "$") {
      braces.push("template");
      keep(2);
    } else keep(1);
  };
  while (at < text.length) {
    const two = text.slice(at, at + 2);
    const char = text[at] ?? "";
    if (two === "//") skipTo(/\n|$/gu);
    else if (two === "/*") {
      skipTo(/\*\//gu);
      blank(2);
    } else if (char === '"' || char === "'") {
      const [whole] = /^(["'])(?:\\.|(?!\1)[^\\])*\1/su.exec(text.slice(at)) ?? [char];
      strings.set(at, whole.slice(1, -1));
      keep(1);
      blank(Math.max(0, whole.length - 2));
      if (whole.length > 1) keep(1);
    } else if (char === "`") {
      keep(1);
      template();
    } else if (char === "/" && isRegexpHere(code)) {
      const [whole] = /^\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/\w*/u.exec(text.slice(at)) ?? [char];
      blank(whole.length);
    } else if (char === "{") {
      braces.push("block");
      keep(1);
    } else if (char === "}") {
      keep(1);
      if (braces.pop() === "template") template();
    } else keep(1);
  }
  return { code, strings };
}

/** Whether a slash after this code begins a regular expression rather than a division. */
function isRegexpHere(code: string): boolean {
  const before = code.trimEnd();
  return before === "" || /[=(,:;[!&|?{}+\-*%<>~^]$|\b(?:return|typeof|case|in|of)$/u.test(before);
}

/** Modules of Node.js that take milliseconds or megabytes of each start: src loads them only where they are needed. */
const HEAVY = /^node:(?:cluster|crypto|fs\/promises|inspector(?:\/promises)?|perf_hooks|zlib)$/u;

interface Import {
  /** Loaded at the start of the program. A type-only import loads nothing. */
  readonly isStatic: boolean;
  /** undefined if it is computed. */
  readonly specifier: string | undefined;
}

/** Static, dynamic and type-only imports and re-exports. */
function importsOf({ code, strings }: Source): Import[] {
  const found: Import[] = [];
  const lazy = /\bgetBuiltinModule\s*\(\s*|(?<![.\w])import\s*\(\s*/u;
  const any = new RegExp(
    `(?:(?<type>import\\s+type\\b[^;"']*)?(?<![.\\w])(?:from\\s*|import\\s*)|(?<lazy>${lazy.source}))(?=["'])`,
    "gu",
  );
  for (const match of code.matchAll(any)) {
    const { type, lazy } = match.groups ?? {};
    found.push({
      specifier: strings.get(match.index + match[0].length),
      isStatic: type === undefined && lazy === undefined,
    });
  }
  for (const _ of code.matchAll(
    /(?<![.\w])import\s*\(\s*(?!["'\s])|(?<![.\w])require\s*\(|\bgetBuiltinModule\b(?!\s*\(\s*["'])/gu,
  ))
    found.push({ specifier: undefined, isStatic: true });
  return found;
}

/** Violations of the file `path` (relative to src) with the content `text`. */
function violationsOf(path: string, text: string): string[] {
  const source = readSource(text);
  const folder = path.includes("/") ? (path.split("/")[0] ?? "") : "";
  const rule = RULES[folder];
  if (rule === undefined) return [`${path}: folder "${folder}" has no rule`];
  const imports = importsOf(source);
  const found = imports.flatMap(({ specifier }) => importViolations(path, rule, specifier));
  for (const { specifier, isStatic } of imports)
    if (isStatic && specifier !== undefined && HEAVY.test(specifier)) found.push(`loads ${specifier} at each start`);
  if (/(?<![.\w])export\s+default\b|\bas\s+default\b/u.test(source.code)) found.push("has a default export");
  if (isBarrel(source.code)) found.push("only re-exports");
  if (folder === "core") for (const [word] of source.code.matchAll(FORBIDDEN_IN_CORE)) found.push(`core knows ${word}`);
  return found.map((violation) => `${path}: ${violation}`);
}

function importViolations(path: string, rule: Rule, specifier: string | undefined): string[] {
  if (specifier === undefined) return ["loads a module whose name cannot be checked"];
  if (!specifier.startsWith(".")) {
    const allowed = (PURE[path] ?? rule.packages).test(specifier);
    const confined = CONFINED[specifier];
    if (confined !== undefined && !confined.includes(path)) return [`may not import ${specifier}`];
    return allowed ? [] : [`may not import ${specifier}`];
  }
  const target = posix.join(posix.dirname(path), specifier);
  if (target.startsWith("..")) return [`leaves src by ${specifier}`];
  if (target.endsWith(".test.ts")) return [`imports the test ${target}`];
  const folder = target.includes("/") ? (target.split("/")[0] ?? "") : "";
  if (!rule.folders.includes(folder)) return [`may not import ${target}`];
  if (folder === "runtime" && !/^(?:runtime|controller)\//u.test(path) && !KNOW_RUNTIME.includes(path))
    return [`may not import ${target}, only ${KNOW_RUNTIME.join(", ")} may`];
  return [];
}

/** Whether a file contains only re-exports. */
function isBarrel(code: string): boolean {
  const reExport = /(?<![.\w])export\s+(?:type\s+)?(?:\*[^;"']*|\{[^}]*\})\s*from\s*(["'])\s*\1\s*;?/gu;
  if (!reExport.test(code)) return false;
  const imports = /(?<![.\w])import\b[^;"']*(["'])\s*\1\s*;?/gu;
  return code.replaceAll(reExport, "").replaceAll(imports, "").trim() === "";
}

function sources(): string[] {
  return readdirSync("src", { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts") && !path.endsWith(".test.ts"))
    .sort();
}

test("files of src import only what the rules of their folder allow", () => {
  const paths = sources();
  assert.ok(paths.length > 40);
  assert.deepEqual(
    paths.flatMap((path) => violationsOf(path, readFileSync(posix.join("src", path), "utf8"))),
    [],
  );
});

/** Violations of the imports of a file of the dashboard. */
function dashboardViolationsOf(path: string, text: string): string[] {
  const { code, strings } = readSource(text);
  // The dashboard must not include code of the controller. Type imports are erased.
  const types = new Set(
    [...code.matchAll(/(?<![.\w])import\s+type\b[^;"']*?from\s*(?=["'])/gu)].map(
      (match) => match.index + match[0].length,
    ),
  );
  return [...code.matchAll(/(?<![.\w])(?:from\s*|import\s*\(?\s*)(?=["'])/gu)].flatMap((match) => {
    const at = match.index + match[0].length;
    const specifier = strings.get(at) ?? "";
    const isAllowed =
      /^\.\/[\w-]+\.tsx?$|^preact(?:\/hooks)?$/u.test(specifier) ||
      (specifier === "../src/admin/api.ts" && types.has(at));
    return isAllowed ? [] : [`${path}: may not import ${specifier}`];
  });
}

test("the dashboard imports only preact and the API's wire types", () => {
  const paths = readdirSync("dashboard").filter((path) => /(?<!\.test)\.tsx?$/u.test(path));
  assert.ok(paths.length > 10);
  assert.deepEqual(
    paths.flatMap((path) => dashboardViolationsOf(path, readFileSync(posix.join("dashboard", path), "utf8"))),
    [],
  );
  const broken = ["import { PATHS } from '../src/admin/api.ts';", 'import type { X } from "../src/core/view.ts";'];
  for (const text of broken) assert.equal(dashboardViolationsOf("a.tsx", text).length, 1, text);
  assert.deepEqual(dashboardViolationsOf("a.tsx", 'import type { Status } from "../src/admin/api.ts";'), []);
});

const MOST_LINES = 400;
const MOST_FILES = 20;

/** Files that are longer, with the reason. Functions are limited by the linter (biome.json). */
const LONG_FILES: Readonly<Record<string, string>> = {
  "runtime/os/linux.ts": "the only file that calls the kernel through FFI",
  "logs/level.ts": "one scanner for the formats of all common logging libraries",
  "logs/annotate.ts": "one state machine over the bytes of a stream, on the path of every log line",
  "metrics/merge.ts": "one pass over the expositions of all workers",
};

/** The longest that a file may be although it has a reason. */
const LONGEST_FILE = 1100;

test("files of src are no longer than the limit unless a reason is stated, and folders have a limited number of files", () => {
  const paths = sources();
  const long = paths.filter(
    (path) => readFileSync(posix.join("src", path), "utf8").split("\n").length - 1 > MOST_LINES,
  );
  assert.deepEqual(long, Object.keys(LONG_FILES).sort(), "files over the limit, and stated reasons");
  for (const path of long)
    assert.ok(readFileSync(posix.join("src", path), "utf8").split("\n").length <= LONGEST_FILE, path);
  const folders = Map.groupBy(paths, (path) => posix.dirname(path));
  for (const [folder, files] of folders)
    assert.ok(files.length <= MOST_FILES, `${folder} has ${files.length} files, limit is ${MOST_FILES}`);
});

test("the folders and files named in the rules exist", () => {
  const paths = sources();
  for (const folder of Object.keys(RULES))
    assert.ok(
      paths.some((path) => path.startsWith(folder)),
      folder,
    );
  for (const path of [...KNOW_RUNTIME, ...Object.keys(PURE), ...Object.values(CONFINED).flat()])
    assert.ok(paths.includes(path), path);
});

test("the check finds every kind of import", () => {
  const text = `
    import { a } from "./a.ts";
    import type { B } from './b.ts';
    import * as c
      from "./c.ts";
    import "./d.ts";
    export { e } from "./e.ts";
    export * from "./f.ts";
    const g = await import("./g.ts");
    type H = import("./h.ts").H;
    const text = \`\${await import("./i.ts")}\`;
  `;
  assert.deepEqual(
    importsOf(readSource(text))
      .map(({ specifier }) => specifier)
      .sort(),
    ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map((name) => `./${name}.ts`),
  );
});

test("the check ignores comments, strings, templates and regular expressions", () => {
  const text = `
    // import "node:fs"; Date
    /* process.exit(1); import x from "node:fs" */
    const a = 'import "node:fs"; it\\'s Date.now()';
    const b = \`await \\\` Date \${a + \`console\`} process\`;
    const c = /["'\`\\/]|[/"]Date/u.test(a) ? 4 / 2 / 1 : "process";
    const d = Buffer.from("node:fs");
    const e = "the end";
  `;
  const source = readSource(text);
  assert.equal(source.code.length, text.length);
  assert.deepEqual(importsOf(source), []);
  assert.deepEqual([...source.code.matchAll(FORBIDDEN_IN_CORE)], []);
  assert.equal([...source.strings.values()].at(-1), "the end");
});

test("a violation of each rule is reported", () => {
  const broken: readonly (readonly [string, string, string])[] = [
    ["base/a.ts", 'import { x } from "../core/x.ts";', "may not import core/x.ts"],
    ["base/a.ts", 'import { x } from "node:fs";', "may not import node:fs"],
    ["core/a.ts", 'import type { X } from "../runtime/x.ts";', "may not import runtime/x.ts"],
    ["core/a.ts", 'import { x } from "node:os";', "may not import node:os"],
    ["core/a.ts", "const now = Date.now();", "core knows Date"],
    ["core/a.ts", "const chance = Math.random();", "core knows Math.random"],
    ["core/a.ts", "const pid = process.pid;", "core knows process"],
    ["core/a.ts", "const text = `$" + "{performance.now()}`;", "core knows performance"],
    ["core/a.ts", "export async function x(): X {}", "core knows async"],
    ["config/a.ts", 'import { x } from "../admin/x.ts";', "may not import admin/x.ts"],
    ["config/a.ts", 'import { x } from "node:fs";', "may not import node:fs"],
    ["runtime/a.ts", 'const x = await import("../config/x.ts");', "may not import config/x.ts"],
    ["runtime/a.ts", 'import ffi from "node:ffi";', "may not import node:ffi"],
    ["runtime/a.ts", 'import { spawn } from "node:child_process";', "may not import node:child_process"],
    ["logs/jsonLine.ts", 'import { x } from "node:buffer";', "may not import node:buffer"],
    ["logs/a.ts", 'import { x } from "../admin/x.ts";', "may not import admin/x.ts"],
    ["metrics/a.ts", 'import { x } from "../runtime/x.ts";', "may not import runtime/x.ts"],
    ["envoy/a.ts", 'import { x } from "../config/x.ts";', "may not import config/x.ts"],
    ["envoy/resources/cluster.ts", 'import { x } from "node:fs";', "may not import node:fs"],
    ["admin/a.ts", 'import { x } from "../metrics/x.ts";', "may not import metrics/x.ts"],
    ["cli/a.ts", 'import { x } from "lodash";', "may not import lodash"],
    ["cli/a.ts", 'import { x } from "./x.test.ts";', "imports the test cli/x.test.ts"],
    ["cli/a.ts", 'import { x } from "../../test/support/x.ts";', "leaves src by ../../test/support/x.ts"],
    ["cli/a.ts", "const x = await import(name);", "loads a module whose name cannot be checked"],
    ["cli/a.ts", 'const x = require("node:fs");', "loads a module whose name cannot be checked"],
    ["cli/a.ts", "const x = process.getBuiltinModule(name);", "loads a module whose name cannot be checked"],
    ["config/a.ts", 'const x = process.getBuiltinModule("node:fs");', "may not import node:fs"],
    ["cli/a.ts", 'import { createHash } from "node:crypto";', "loads node:crypto at each start"],
    ["cli/a.ts", "const a = 1;\nexport default a;", "has a default export"],
    ["cli/a.ts", "const a = 1;\nexport { a as default };", "has a default export"],
    ["cli/a.ts", 'import "./x.ts";\nexport * from "./y.ts";\nexport type { Z } from "./z.ts";', "only re-exports"],
    ["main.ts", 'import { x } from "./runtime/x.ts";', "may not import runtime/x.ts"],
  ];
  for (const [path, text, violation] of broken) assert.deepEqual(violationsOf(path, text), [`${path}: ${violation}`]);
  assert.match(
    violationsOf("cli/a.ts", 'import { x } from "../runtime/x.ts";')[0] ?? "",
    /only cli\/connectController/u,
  );
  assert.deepEqual(violationsOf("utils/a.ts", ""), ['utils/a.ts: folder "utils" has no rule']);
  assert.deepEqual(violationsOf("core/a.ts", 'export { x } from "./x.ts";\nexport const y = 1;'), []);
});
