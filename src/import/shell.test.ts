// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the input and the output contain variables
import assert from "node:assert/strict";
import { test } from "node:test";
import { PoolDraft } from "./draft.ts";
import { setShellCommand, withoutShell } from "./shell.ts";
import { binarySize, boolean, literal, plain, seconds, signal, splitWords } from "./text.ts";

const KEY = { name: "web", short: "web", where: "Procfile:1" };

function translated(command: string): Record<string, unknown> {
  const pool = new PoolDraft("web", "web");
  setShellCommand(pool, command, KEY, { PORT: "{{.Port}}" });
  return Object.fromEntries(pool.settings.map(({ path, value }) => [path.join("."), value]));
}

test("a command that uses only words, quotes and known variables needs no shell", () => {
  for (const [command, ...words] of [
    ["puma -p $PORT", "puma", "-p", "{{.Port}}"],
    ["puma -b tcp://0.0.0.0:${PORT:-3000}", "puma", "-b", "tcp://0.0.0.0:{{.Port}}"],
    [`sidekiq -q "a b" -q 'c $X' d\\ e ""`, "sidekiq", "-q", "a b", "-q", "c $X", "d e", ""],
    ["exec node server.js", "node", "server.js"],
    ["echo '${HOME} {{.Slot}}'", "echo", '$${HOME} {{"{{"}}.Slot}}'],
    ["run a#b c~d e!f", "run", "a#b", "c~d", "e!f"],
  ] as const)
    assert.deepEqual(withoutShell(command, { PORT: "{{.Port}}" })?.words, words, command);
});

test("a command that uses more of a shell is left to a shell", () => {
  for (const command of [
    "a && b",
    "a | b",
    "a > b",
    "a $HOME",
    "a `b`",
    "a $(b)",
    "a *.py",
    'a "$HOME"',
    "a 'b",
    "cd a",
    "~/bin/a",
    "a # b",
    "$PORT a",
    "",
  ])
    assert.equal(withoutShell(command, { PORT: "{{.Port}}" }), undefined, command);
});

test("a shell replaces itself by its only command, and keeps its own syntax", () => {
  assert.deepEqual(translated("gunicorn -b :${PORT} -w ${WORKERS:-2}"), {
    exec: "sh",
    args: ["-c", "exec gunicorn -b :$${PORT} -w $${WORKERS:-2}"],
  });
  assert.deepEqual(translated("a && b $X"), { exec: "sh", args: ["-c", "a && b $X"] });
  assert.deepEqual(translated("exec a $X"), { exec: "sh", args: ["-c", "exec a $X"] });
});

test("variables and a directory in front of a command become env and cwd", () => {
  assert.deepEqual(translated("A=1 B='x y' run"), { "env.A": "1", "env.B": "x y", exec: "run" });
  assert.deepEqual(translated("A=1 run $X"), { "env.A": "1", exec: "sh", args: ["-c", "exec run $X"] });
  assert.deepEqual(translated("A=$X run"), { exec: "sh", args: ["-c", "A=$X run"] });
  assert.deepEqual(translated("cd api && uvicorn main:app"), { cwd: "api", exec: "uvicorn", args: ["main:app"] });
  assert.deepEqual(translated("cd a && b && c"), { exec: "sh", args: ["-c", "cd a && b && c"] });
});

test("words are split as in a POSIX shell, without expansions", () => {
  assert.deepEqual(splitWords(`a "b \\" c" 'd "e' f\\ g '' $HOME *`), ["a", 'b " c', 'd "e', "f g", "", "$HOME", "*"]);
  assert.deepEqual(splitWords("  "), []);
  for (const text of ['"a', "'a", "a\\"]) assert.equal(splitWords(text), undefined, text);
});

test("text that our file would read as a variable or a template is escaped", () => {
  assert.equal(plain("$HOME ${X} $$ {{.Slot}}"), "$HOME $${X} $$$ {{.Slot}}");
  assert.equal(literal("{{.Slot}} {{ x }}"), '{{"{{"}}.Slot}} {{ x }}');
});

test("units and names of other programs are converted", () => {
  assert.deepEqual(["10", "1.5", "600", "x", "-1"].map(seconds), ["10s", "1.5s", "10m", undefined, undefined]);
  assert.deepEqual(["50MB", "600M", "1g", "1024", "1.5K", "x", "5%"].map(binarySize), [
    "50MiB",
    "600MiB",
    "1GiB",
    "1KiB",
    "1536B",
    undefined,
    undefined,
  ]);
  assert.deepEqual(["TERM", "sigint", "3", "USR1"].map(signal), ["SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1"]);
  assert.deepEqual(["yes", "On", "0", "false", "perhaps"].map(boolean), [true, true, false, false, undefined]);
});
