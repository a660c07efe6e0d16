/** The translators of other process managers. For any text they return a valid configuration, or refuse the file. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import { checkImport } from "../../src/import/check.ts";
import { type Draft, type Imported, type Source, SourceError } from "../../src/import/draft.ts";
import { translateGunicorn } from "../../src/import/gunicorn/translate.ts";
import { parsePm2Text } from "../../src/import/pm2/document.ts";
import { translatePm2 } from "../../src/import/pm2/translate.ts";
import { translateProcfile } from "../../src/import/procfile.ts";
import { parseIni } from "../../src/import/supervisord/ini.ts";
import { includedFiles, translateSupervisord } from "../../src/import/supervisord/translate.ts";
import { translateSystemd } from "../../src/import/systemd/translate.ts";
import { parseUnit } from "../../src/import/systemd/unit.ts";
import type { SeededRandom } from "../support/random.ts";
import { mutated, simpleTarget, textOf } from "./target.ts";

const TRANSLATORS: Readonly<Record<string, (source: Source) => Imported>> = {
  supervisord: (source) => {
    includedFiles(source);
    return translateSupervisord([source]);
  },
  pm2: (source) => translatePm2(parsePm2Text(source), { env: undefined }),
  procfile: (source) => translateProcfile(source, { formation: {}, envFile: undefined }),
  gunicorn: (source) => translateGunicorn(source, { evaluated: undefined, app: "a:b", path: "/g.py" }),
  systemd: (source) => translateSystemd([source], "web@.service"),
};

interface Input {
  readonly kind: string;
  readonly text: string;
}

const FIXTURES = "test/fixtures/import";

/** The files in the syntax of each kind. */
const FILES: readonly Input[] = Object.keys(TRANSLATORS).flatMap((kind) =>
  readdirSync(`${FIXTURES}/${kind}`, { withFileTypes: true })
    .filter((entry) => entry.isFile() && !/\.[cm]js$/u.test(entry.name))
    .map(({ name }) => ({ kind, text: readFileSync(`${FIXTURES}/${kind}/${name}`, "utf8") })),
);

const NOISE =
  "\n|\t|=|:|[|]|{|}|'|\"|\\|$|$$|$" +
  "{X}|%|%%|%(process_num)02d|%(ENV_X)s|%(|%i|%h|#|;|,|&|*a|- |--|0|-1|9999999|true|no|infinity|10s|é|🎉|\u0085|\u2028|{{.Slot}}|{{|}}|__proto__|constructor|\nExecStart=/a\n|[Service]\n|[program:x]\n|command=a|env=|apps:|web: a\n|bind = |# |None|(";

function make(random: SeededRandom): Input {
  const noise = NOISE.split("|");
  const file = random.pick(FILES);
  return { kind: file.kind, text: random.chance(0.1) ? textOf(noise, random, 20) : mutated(file.text, noise, random) };
}

/** Names of all keys of a text, by the reader of its kind. */
function keysOf({ kind, text }: Input): string[] {
  if (kind === "supervisord")
    return parseIni(text, "file").flatMap(({ name, entries }) => entries.map(({ key }) => `${name}.${key}`));
  if (kind === "systemd") return parseUnit(text, "file").map(({ section, key }) => `${section}.${key}`);
  if (kind !== "pm2") return [];
  const { apps } = parsePm2Text({ file: "file", directory: "/dir", text });
  return apps.flatMap((app, index) => Object.keys(app).map((key) => `apps[${index}].${key}`));
}

function requireAllKeys(input: Input, { pools, general }: Imported): void {
  const drafts: readonly Draft[] = [general, ...pools];
  const handled = new Set(
    drafts.flatMap(({ settings, implied, ignored }) => [
      ...[...settings.flatMap(({ keys }) => keys), ...implied].map(({ name }) => name),
      ...ignored.map(({ key }) => key),
    ]),
  );
  assert.deepEqual(
    keysOf(input).filter((key) => !handled.has(key)),
    [],
    "keys that are neither set, implied nor ignored",
  );
}

function check({ kind, text }: Input, random: SeededRandom): void {
  try {
    const imported = TRANSLATORS[kind]?.({ file: "dir/file", directory: "/dir", text });
    if (imported !== undefined) requireAllKeys({ kind, text }, imported);
    // Only in some cases, because it takes most of the time.
    if (imported !== undefined && random.chance(0.3)) parse(checkImport(imported, ["Imported."]).yaml);
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
  }
}

export const IMPORTS = simpleTarget("imports", make, check);
