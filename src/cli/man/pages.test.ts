import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { ERROR_CODES } from "../../base/errors.ts";
import { configKind } from "../../config/config.ts";
import { everyKey } from "../../config/field.ts";
import { parseConfig } from "../../config/load.ts";
import { IGNORED_SIGNALS, STOP_SIGNALS } from "../../controller/watch/heldSignals.ts";
import type { Command } from "../command.ts";
import { COMMAND_GROUPS, COMMANDS } from "../commands.ts";
import { EXAMPLE } from "./configurationPage.ts";
import { SIGNALS } from "./overviewPage.ts";
import { manPages } from "./pages.ts";
import { escapeRoff, inline, paragraphs } from "./roff.ts";

const PAGES = manPages(COMMAND_GROUPS, "1.2.3");

/** What a reader sees of a page, without roff's escapes. */
function visible(page: string): string {
  return page
    .replaceAll(/\\f[BRI]|\\&/gu, "")
    .replaceAll("\\-", "-")
    .replaceAll("\\e", "\\");
}

test("escaped text has no control line, no bare backslash and no character outside ASCII", () => {
  assert.equal(escapeRoff(".TH x\n'br\nC:\\n"), "\\&.TH x\n\\&'br\nC:\\en");
  assert.equal(
    escapeRoff("a well-known -c 'x' `y` ~ ^ \"", "prose"),
    "a well-known \\-c 'x' \\(gay\\(ga \\(ti \\(ha \\(dq",
  );
  assert.equal(escapeRoff("a-b 'x'", "literal"), "a\\-b \\(aqx\\(aq");
  assert.equal(escapeRoff("1 … 2 😀"), "1 \\[u2026] 2 \\[u1F600]");
});

test("Markdown becomes fonts, and lines that begin with a dot are guarded after folding", () => {
  assert.equal(inline("Use `-c` or [the page](x.md) **now**"), "Use \\fB\\-c\\fR or the page \\fBnow\\fR");
  const folded = inline(`${"x".repeat(78)} .so /etc/passwd`);
  assert.deepEqual(folded.split("\n"), ["x".repeat(78), "\\&.so /etc/passwd"]);
  assert.deepEqual(paragraphs("a\nb\n\n- c\n  d\n- e"), [".PP", "a b", ".IP \\(bu 3", "c d", ".IP \\(bu 3", "e"]);
  assert.equal(inline("an unmatched ` and [ and *"), "an unmatched \\(ga and [ and *");
});

test("there is a page for each command, an overview and one for the configuration", () => {
  const names = COMMANDS.map(({ name }) => `monoceros-${name.replaceAll(" ", "-")}.1`);
  assert.deepEqual(Object.keys(PAGES), ["monoceros.1", ...names, "monoceros.yaml.5"]);
});

test("each page has a title, a name for apropos, and no empty section", () => {
  for (const [file, page] of Object.entries(PAGES)) {
    const [name = "", section = ""] = [file.slice(0, -2), file.slice(-1)];
    const title = `\n.TH "${name.toUpperCase()}" "${section}" "" "Monoceros 1.2.3" "Monoceros Manual"\n`;
    assert.ok(visible(page).includes(title), file);
    assert.match(visible(page), new RegExp(`\\n\\.SH NAME\\n${RegExp.escape(name)} - \\S.*[^.]\\n`, "u"));
    assert.doesNotMatch(page, /^\.SH .*\n\.(?:SH|PP)|^\.SS .*\n\.S[HS]|\n\n/mu, file);
    assert.ok(page.endsWith("\n"), file);
  }
});

test("each page contains only known requests and ASCII", () => {
  for (const [file, page] of Object.entries(PAGES)) {
    assert.doesNotMatch(page, /[^ -~\n]/u, file);
    for (const line of page.split("\n"))
      if (/^[.']/u.test(line)) assert.match(line, /^\.(?:\\"|TH|SH|SS|PP|TP|IP|br|EX|EE)(?: |$)/u, `${file}: ${line}`);
  }
});

test("the page of a command has its flags, arguments and examples", () => {
  for (const { name, flags, arguments: all, examples } of COMMANDS) {
    const page = visible(PAGES[`monoceros-${name.replaceAll(" ", "-")}.1`] ?? "");
    for (const flag of Object.keys(flags)) assert.ok(page.includes(`--${flag}`), `${name} --${flag}`);
    for (const argument of all) assert.ok(page.includes(`\n${argument.name}\n`), argument.name);
    for (const { command } of examples)
      assert.ok(page.includes(`\n${visible(escapeRoff(command, "literal"))}\n`), command);
  }
});

test("hostile text of a command stays text", () => {
  const command: Command = {
    name: "odd",
    summary: 'Print \\n and "quotes"',
    details: ".so /etc/passwd\n'de x",
    flags: { "a-b": { type: "string", value: "FILE", doc: ".TH in a flag" } },
    arguments: [],
    examples: [{ command: "monoceros odd 'x'", doc: "\\fBnot bold" }],
    run: async () => 0,
  };
  const page = manPages({ Odd: [command] }, "1")["monoceros-odd.1"] ?? "";
  for (const text of ["Print \\en and \\(dqquotes\\(dq", "\\&.so /etc/passwd", "\\&.TH in a flag", "\\efBnot bold"])
    assert.ok(page.includes(text), text);
});

test("the overview has every exit code and every signal with an effect", () => {
  const page = visible(PAGES["monoceros.1"] ?? "");
  const [, exits = ""] = /\.SH EXIT STATUS\n(.*?)\n\.SH /su.exec(page) ?? [];
  for (const { exitCode } of Object.values(ERROR_CODES)) assert.match(exits, new RegExp(`^${exitCode}$`, "mu"));
  const named = Object.keys(SIGNALS).flatMap((names) => names.split(", ").map((name) => `SIG${name}`));
  for (const signal of STOP_SIGNALS) assert.ok(named.includes(signal), signal);
  for (const signal of IGNORED_SIGNALS) assert.ok(!named.includes(signal), signal);
});

test("the page of the configuration has every key", () => {
  const page = visible(PAGES["monoceros.yaml.5"] ?? "");
  for (const { field } of everyKey(configKind)) assert.ok(page.includes(`\n.TP\n${field.yaml} (`), field.yaml);
});

test("the example of the page is valid", () => {
  assert.ok(parseConfig(EXAMPLE, "monoceros.yaml", {}).ok);
});

const hasGroff = spawnSync("groff", ["-man", "-Tutf8", "-z"], { input: "" }).status === 0;

test("groff formats each page without a warning", { skip: !hasGroff }, () => {
  const input = Object.values(PAGES).join("");
  const { status, stderr } = spawnSync("groff", ["-ww", "-man", "-Tutf8", "-z"], { input, encoding: "utf8" });
  assert.deepEqual([status, stderr], [0, ""]);
});
