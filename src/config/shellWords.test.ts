import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { commandLineOf, shellWords } from "./shellWords.ts";
import { joinParts, type Template, type TemplatePart } from "./template.ts";

function read(text: string): readonly Template[] | string {
  const result = shellWords([{ text, isValue: false }]);
  return result.ok ? result.words : result.message;
}

/** For commands without templates. */
function words(text: string): readonly string[] | string {
  const result = read(text);
  return typeof result === "string" ? result : result.map((word) => word.join(""));
}

test("words are split and quoted as in a POSIX shell", () => {
  const cases: readonly (readonly [string, readonly string[]])[] = [
    ["gunicorn app:app", ["gunicorn", "app:app"]],
    ["  a \t b\n", ["a", "b"]],
    ["\n\n a b \n \n", ["a", "b"]],
    ["", []],
    [`sh -c 'exec a | b > "$HOME"'`, ["sh", "-c", 'exec a | b > "$HOME"']],
    [`a "b c" 'd "e"' "f 'g'"`, ["a", "b c", 'd "e"', "f 'g'"]],
    [`a '' ""`, ["a", "", ""]],
    [`a""b'c'd`, ["abcd"]],
    ["a\\ b \\'c\\\\ \\$d \\|", ["a b", "'c\\", "$d", "|"]],
    [`"a\\"b\\\\c\\$d\\e\\\`"`, ['a"b\\c$d\\e`']],
    [`'a\\b'`, ["a\\b"]],
    ["a \\\n  b\\\nc", ["a", "bc"]],
    [`"a\\\nb"`, ["ab"]],
    ["a=b 5$ c$, x#y a~b {c} ]", ["a=b", "5$", "c$,", "x#y", "a~b", "{c}", "]"]],
  ];
  for (const [text, expected] of cases) assert.deepEqual(words(text), expected, text);
});

test("what only a shell could carry out is an error that says what to write", () => {
  const unquoted = (what: string) =>
    `an unquoted ${JSON.stringify(what)}; no shell runs: quote it in single quotes, or write exec: sh and args: [-c, "…"]`;
  for (const character of ["|", ">", "<", "&", ";", "*", "?", "(", "`", "["])
    assert.equal(words(`a ${character} b`), unquoted(character));
  assert.equal(words("a # comment"), unquoted("#"));
  assert.equal(words('a "`b`"'), unquoted("`"));
  assert.equal(words("a $(b)"), unquoted("$"));
  assert.match(String(words("a $HOME")), /unquoted "\$" of a variable; write \$\{NAME\}, which the configuration/u);
  assert.match(String(words('a "$HOME"')), /of a variable/u);
  assert.equal(words("a ~/b"), `"~" is not expanded; write \${HOME}, or quote it`);
  assert.equal(words("a 'b"), "the quote ' is not closed");
  assert.equal(words('a "b'), 'the quote " is not closed');
  assert.equal(words("a \\"), "the backslash at the end quotes nothing");
  for (const second of ["b", "'b'", "\\b"]) assert.match(String(words(`a\n${second}`)), /a second line is a second/u);
});

test("templates and values of variables are parts of words, whatever they contain", () => {
  assert.deepEqual(read(`a --bind=0.0.0.0:{{.Port}} '{{.Slot}} x' {{ .Fd }}{{.Pool}}`), [
    ["a"],
    ["--bind=0.0.0.0:", { name: "Port" }],
    [{ name: "Slot" }, " x"],
    [{ name: "Fd" }, { name: "Pool" }],
  ]);
  assert.deepEqual(read(`a {{"{{"}}.x`), [["a"], ["{{.x"]]);
  assert.match(String(read("a {{.Nope}}")), /unknown template/u);
  const value = { text: "x 'y| {{.Port}}", isValue: true };
  const result = shellWords([{ text: "a -", isValue: false }, value, { text: "z ", isValue: false }, value]);
  assert.deepEqual(result, { ok: true, words: [["a"], [`-${value.text}z`], [value.text]] });
  const empty = shellWords([
    { text: "a ", isValue: false },
    { text: "", isValue: true },
    { text: ' "', isValue: false },
    { text: "", isValue: true },
    { text: '"', isValue: false },
  ]);
  assert.deepEqual(empty, { ok: true, words: [["a"], []] }, "an unquoted empty value is no word");
});

const anyPart: fc.Arbitrary<TemplatePart> = fc.oneof(
  fc.string({ unit: fc.constantFrom(..."ab '\"\\$`|&;<>()*?[]{}~#=!\n\t-é") }),
  fc.string(),
  fc.constantFrom("Port", "Slot").map((name) => ({ name }) as const),
);

test("a command line made of words has these words", () => {
  const anyWords = fc.array(fc.array(anyPart, { maxLength: 4 }).map(joinParts), { maxLength: 6 });
  fc.assert(
    fc.property(anyWords, (expected) => {
      assert.deepEqual(read(commandLineOf(expected)), expected);
    }),
  );
});

test("any text is words or an error", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."a '\"\\$|\n{.") }), (text) => {
      const result = read(text);
      assert.ok(typeof result === "string" ? result !== "" : result.every((word) => Array.isArray(word)));
    }),
  );
});
