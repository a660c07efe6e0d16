/** `monoceros import`: translates the configuration of another process manager. */
import type { CheckedImport } from "../../import/check.ts";
import type { Command, Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import type { ImportKind } from "../importSource.ts";

/** Flags that only one kind of file has. */
const FLAGS_OF_KINDS: Readonly<Record<string, string>> = {
  env: "pm2",
  formation: "procfile",
  app: "gunicorn",
  "no-eval": "gunicorn",
};

export const importCommand: Command = {
  name: "import",
  summary: "Translate the configuration of supervisord, PM2, a Procfile, gunicorn or systemd",
  details:
    "Prints a configuration with comments. Each key of the file is translated, or listed with the reason why it was not. The\nresult is checked like `monoceros validate` does, except for what depends on the machine: executables, users and ports.\nA file in JavaScript is executed by node, one in Python by python3, each from PATH and for at most 10 s.",
  flags: {
    output: {
      type: "string",
      short: "o",
      value: "FILE",
      doc: "Write the configuration to a new file instead of stdout",
    },
    force: { type: "boolean", doc: "With -o: replace the file if it exists" },
    strict: { type: "boolean", doc: "Exit with code 1, and write no file, if a key was not translated" },
    env: { type: "string", value: "NAME", doc: "PM2: merge env_NAME into env" },
    formation: { type: "string", value: "LIST", doc: "Procfile: number of processes, such as web=4,worker=2" },
    app: { type: "string", value: "MODULE:NAME", doc: "gunicorn: the application, if the file has no wsgi_app" },
    "no-eval": { type: "boolean", doc: "gunicorn: read only literal values instead of executing the file" },
  },
  arguments: [
    {
      name: "KIND",
      isRequired: true,
      doc: "supervisord, pm2, procfile, gunicorn or systemd",
      values: ["supervisord", "pm2", "procfile", "gunicorn", "systemd"],
    },
    { name: "FILE", isRequired: true, doc: "The file to translate" },
  ],
  examples: [
    { command: "monoceros import supervisord /etc/supervisord.conf", doc: "Print the configuration" },
    {
      command: "monoceros import pm2 ecosystem.config.js --env production -o monoceros.yaml",
      doc: "Write it to a file",
    },
    { command: "monoceros import procfile Procfile --formation web=4,worker=2", doc: "Set the number of processes" },
    { command: "monoceros import systemd web@.service --strict", doc: "Fail if a key has no translation" },
  ],
  async run(context) {
    const [kind = "", file = ""] = context.arguments;
    const { IMPORT_KINDS, importFile } = await import("../importSource.ts");
    const known = IMPORT_KINDS.find((each) => each === kind);
    if (known === undefined) throw await unknownKind(kind, IMPORT_KINDS);
    for (const [flag, only] of Object.entries(FLAGS_OF_KINDS))
      if (context.isSet(flag) && only !== kind) throw usage(`--${flag} applies only to ${only}`, "monoceros import");
    if (context.isSet("force") && !context.isSet("output")) throw usage("--force needs -o FILE", "monoceros import");
    const result = await importFile(known, file, {
      env: context.text("env"),
      formation: formationOf(context.text("formation")),
      app: context.text("app"),
      mayExecute: !context.isSet("no-eval"),
      path: context.env["PATH"],
    });
    const isRefused = context.isSet("strict") && result.ignored.length > 0;
    const output = isRefused ? undefined : context.text("output");
    if (output !== undefined) {
      const { writeWhole } = await import("../writeWhole.ts");
      writeWhole(output, result.yaml, { like: file, replaces: context.isSet("force") });
    }
    await report(context, { kind: known, file, output, isRefused }, result);
    return isRefused ? 1 : 0;
  },
};

async function unknownKind(kind: string, kinds: readonly string[]): Promise<Error> {
  const { didYouMean } = await import("../../config/nearest.ts");
  const guess = didYouMean(kind, kinds);
  return usage(
    `unknown kind "${kind}"${guess === "" ? `, expected one of ${kinds.join(", ")}` : guess}`,
    "monoceros import",
  );
}

/** @throws ControllerError USAGE */
function formationOf(text: string | undefined): Record<string, number> {
  const formation: Record<string, number> = {};
  for (const part of text?.split(",") ?? []) {
    const [, name, count] = /^\s*([\w-]+)=(\d{1,4})\s*$/u.exec(part) ?? [];
    if (name === undefined)
      throw usage(`--formation: expected a list such as web=4,worker=2, got "${text}"`, "monoceros import");
    formation[name] = Number(count);
  }
  return formation;
}

interface Outcome {
  readonly kind: ImportKind;
  readonly file: string;
  /** The file that was written. */
  readonly output: string | undefined;
  readonly isRefused: boolean;
}

async function report({ terminal, isSet }: Context, outcome: Outcome, result: CheckedImport): Promise<void> {
  const { kind, file, output, isRefused } = outcome;
  const { yaml, pools, disabled, notes } = result;
  const ignored = result.ignored.map(({ key, where, reason }) => ({ key, where, reason }));
  if (isSet("json")) {
    const body = { kind, file, output: output ?? null, pools, disabled, ignored, notes, config: yaml };
    await terminal.write("stdout", `${JSON.stringify(body, undefined, 2)}\n`);
    return;
  }
  if (output === undefined && !isSet("output")) await terminal.write("stdout", yaml);
  if (output !== undefined)
    await terminal.write("stdout", `wrote ${output} with ${count(pools.length, "pool")}: ${pools.join(", ")}\n`);
  if (ignored.length === 0) return;
  const lines = isRefused ? ignored.map(({ key, where, reason }) => `\n  ${where}: ${key}: ${reason}`).join("") : "";
  const rest = isRefused ? "" : "; comments in the configuration give the reasons";
  await terminal.write("stderr", `${file}: ${count(ignored.length, "key")} not translated${rest}${lines}\n`);
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
