import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { COMMANDS } from "./commands.ts";
import { completionScript, SHELLS, type Shell } from "./completion.ts";

function isThere(shell: Shell): boolean {
  return spawnSync(shell, ["-c", "true"]).status === 0;
}

/** What bash offers after these words, the last one unfinished; a stand-in for the program knows one pool. */
function offers(line: string): string[] {
  const words = line.split(" ");
  const script = `${completionScript("bash", COMMANDS)}
monoceros() { [ "$*" = "completion names" ] && printf 'web\\nweb-0\\njobs\\n'; }
COMP_WORDS=(${words.map((word) => `"${word}"`).join(" ")}); COMP_CWORD=${words.length - 1}
_monoceros
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = spawnSync("bash", ["--norc", "-c", script], { encoding: "utf8" });
  assert.deepEqual([status, stderr], [0, ""]);
  return stdout.split("\n").filter((each) => each !== "");
}

test("bash completes commands, subcommands, flags, pools and workers", {
  skip: !isThere("bash"),
}, () => {
  assert.deepEqual(offers("monoceros re"), ["reload", "restart"]);
  assert.deepEqual(offers("monoceros st"), ["status", "stop", "start"]);
  assert.deepEqual(offers("monoceros config "), ["show", "schema"]);
  assert.deepEqual(offers("monoceros config sc"), ["schema"]);
  assert.deepEqual(offers("monoceros config show --co"), ["--config"]);
  assert.deepEqual(offers("monoceros logs r"), ["reopen"]);
  assert.deepEqual(offers("monoceros logs --fo"), ["--follow"]);
  assert.deepEqual(offers("monoceros logs reopen --f"), []);
  assert.deepEqual(offers("monoceros restart we"), ["web", "web-0"]);
  assert.deepEqual(offers("monoceros restart web --no"), ["--no-wait"]);
  assert.deepEqual(offers("monoceros stop --a"), ["--all"]);
  assert.deepEqual(offers("monoceros completion "), [
    "bash",
    "zsh",
    "fish",
    "names",
    "--socket",
    "--config",
    "--json",
    "--help",
  ]);
  assert.deepEqual(offers("monoceros run -c "), [], "files are bash's own business");
  assert.deepEqual(offers("monoceros import sup"), ["supervisord"]);
  assert.deepEqual(offers("monoceros import pm2 eco"), [], "bash completes files where nothing else matches");
  assert.deepEqual(offers("monoceros nonsense x"), []);
  assert.deepEqual(
    offers("monoceros "),
    [...new Set(COMMANDS.map(({ name }) => name.split(" ")[0] ?? ""))].concat("--help", "--version"),
  );
});

for (const shell of SHELLS) {
  test(`the script for ${shell} has no syntax error`, { skip: !isThere(shell) }, () => {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-completion-"));
    try {
      const file = join(directory, "script");
      writeFileSync(file, completionScript(shell, COMMANDS));
      const { status, stderr } = spawnSync(shell, ["-n", file], { encoding: "utf8" });
      assert.deepEqual([status, stderr], [0, ""]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test(`the script for ${shell} contains every command and every flag`, () => {
    const script = completionScript(shell, COMMANDS);
    for (const { name, flags } of COMMANDS) {
      for (const word of name.split(" ")) assert.ok(script.includes(word), word);
      for (const flag of Object.keys(flags))
        assert.ok(script.includes(shell === "fish" ? `-l ${flag}` : `--${flag}`), flag);
    }
    // Quotes of texts must not end the quotes of the script.
    assert.equal(script.replaceAll("'\\''", "").split("'").length % 2, 1);
  });
}

test("a file as an argument is completed by the shell", () => {
  assert.match(completionScript("bash", COMMANDS), /"import"\) words=\(.*\) files=1 ;;/u);
  assert.match(completionScript("zsh", COMMANDS), /':FILE:_files'/u);
  assert.match(completionScript("fish", COMMANDS), /seen_subcommand_from import' -F$/mu);
});

/** Names that a hostile controller answers with; each would leave a file behind where a shell expands it. */
function hostileNames(mark: string): string {
  return [`$(touch ${mark})`, `\`touch ${mark}\``, `web;touch ${mark}`, "*", "web\u009b", "'", "web-0"].join("\n");
}

test("no shell expands the names that it receives from a controller", (context) => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-completion-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const mark = join(directory, "mark");
  writeFileSync(join(directory, "names"), `${hostileNames(mark)}\n`);
  const scripts: Readonly<Record<Shell, string>> = {
    bash: `source /dev/stdin <<'SCRIPT'\n${completionScript("bash", COMMANDS)}SCRIPT
monoceros() { cat names; }
COMP_WORDS=(monoceros restart ""); COMP_CWORD=2; _monoceros; printf '%s\\n' "\${COMPREPLY[@]}"`,
    zsh: `compdef() {}; compadd() { print -rl -- "\${(@P)2}" }
source /dev/stdin <<'SCRIPT'\n${completionScript("zsh", COMMANDS)}SCRIPT
monoceros() { cat names }
_monoceros_names`,
    fish: `function monoceros; cat names; end
source script.fish; complete -C 'monoceros restart '`,
  };
  writeFileSync(join(directory, "script.fish"), completionScript("fish", COMMANDS));
  for (const shell of SHELLS.filter(isThere)) {
    const { stdout, stderr } = spawnSync(shell, ["-c", scripts[shell]], { encoding: "utf8", cwd: directory });
    const offered = stdout.split("\n").map((line) => line.split("\t")[0]);
    assert.ok(offered.includes("web-0"), `${shell}: ${stdout}${stderr}`);
    assert.ok(!existsSync(mark), `${shell} ran a name`);
    assert.deepEqual(
      offered.filter((each) => each?.includes("touch") === true || each === "*" || each?.includes("names") === true),
      [],
      shell,
    );
  }
});
