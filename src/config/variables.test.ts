// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these tests use the syntax of variables
import assert from "node:assert/strict";
import { test } from "node:test";
import { substituteVariables } from "./variables.ts";

const ENV = { NAME: "web", EMPTY: "", NESTED: "${NAME} $$" };

function replaced(text: string): string {
  const result = substituteVariables(text, ENV);
  assert.ok(result.ok, text);
  return result.pieces.map((piece) => piece.text).join("");
}

test("variables are replaced; defaults replace unset and empty variables", () => {
  assert.equal(replaced("a-${NAME}-${NAME}"), "a-web-web");
  assert.equal(replaced("${NONE:-x:-y}|${EMPTY:-z}|${NAME:-no}|${NONE:-}|${EMPTY}"), "x:-y|z|web||");
});

test("$$ is a dollar sign; a single dollar sign is unchanged", () => {
  assert.equal(replaced("$$ $$$$ $HOME a$ $1 $${NAME}"), "$ $$ $HOME a$ $1 ${NAME}");
});

test("the value of a variable is not parsed again and remains a separate piece", () => {
  assert.equal(replaced("${NESTED}"), "${NAME} $$");
  assert.deepEqual(substituteVariables("a$$${NESTED}-${NONE:-d}${EMPTY}", ENV), {
    ok: true,
    replaced: true,
    pieces: [
      { text: "a$", isValue: false },
      { text: "${NAME} $$", isValue: true },
      { text: "-d", isValue: false },
      { text: "", isValue: true },
    ],
  });
});

test("an unset variable without a default and a malformed variable are problems", () => {
  for (const [text, expected] of [
    ["${NONE}", /environment variable NONE is not set/u],
    ["${toString}", /toString is not set/u],
    ["${}", /expected \$\{NAME\} or \$\{NAME:-default\}, got "\$\{\}"/u],
    ["${A-b}", /got "\$\{A-b\}"/u],
  ] as const) {
    const result = substituteVariables(text, ENV);
    assert.ok(!result.ok);
    assert.match(result.message, expected);
  }
});
