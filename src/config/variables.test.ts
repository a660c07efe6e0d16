// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the syntax of variables is what is tested
import assert from "node:assert/strict";
import { test } from "node:test";
import { substituteVariables } from "./variables.ts";

const ENV = { NAME: "web", EMPTY: "", NESTED: "${NAME} $$" };

function replaced(text: string): string {
  const result = substituteVariables(text, ENV);
  assert.ok(result.ok, text);
  return result.text;
}

test("variables are replaced, defaults stand in for unset and empty ones", () => {
  assert.equal(replaced("a-${NAME}-${NAME}"), "a-web-web");
  assert.equal(replaced("${NONE:-x:-y}|${EMPTY:-z}|${NAME:-no}|${NONE:-}|${EMPTY}"), "x:-y|z|web||");
});

test("two dollars are one, a lone dollar is itself", () => {
  assert.equal(replaced("$$ $$$$ $HOME a$ $1 $${NAME}"), "$ $$ $HOME a$ $1 ${NAME}");
});

test("what is put in is not read again", () => {
  assert.equal(replaced("${NESTED}"), "${NAME} $$");
});

test("an unset variable without a default and a malformed one are told", () => {
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
