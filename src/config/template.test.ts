import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  parseTemplate,
  renderTemplate,
  type TemplateValues,
  template,
  templateNames,
  templateSource,
  templateText,
} from "./template.ts";

function render(text: string, values: TemplateValues): string {
  return renderTemplate(template(text), values);
}

function problemOf(text: string): string | undefined {
  const parsed = parseTemplate([{ text, isValue: false }]);
  return parsed.ok ? undefined : parsed.message;
}

test("known templates are replaced, with or without spaces", () => {
  const values = { Port: 9090, WorkerID: "web-0", Slot: 0 };
  assert.equal(render("--bind=127.0.0.1:{{.Port}}", values), "--bind=127.0.0.1:9090");
  assert.equal(render("{{ .WorkerID }}/{{.Slot}}", values), "web-0/0");
});

test("a template without a value and other double braces are unchanged", () => {
  for (const text of ["{{.Fd}}", "{{name}}", '{"a":{"b":{}}}', "{{.Port", "{{.{{.Port", "no braces", "", '{{"x"}}'])
    assert.equal(render(text, {}), text);
});

test('{{"{{"}} is a literal {{', () => {
  assert.equal(render('{{"{{"}}.Port}} {{ "{{" }}.Slot}}', { Port: 1, Slot: 2 }), "{{.Port}} {{.Slot}}");
});

test("a value that looks like a template is not expanded again", () => {
  assert.equal(render("{{.Pool}}", { Pool: "{{.Port}}$&", Port: 1 }), "{{.Port}}$&");
});

test("the value of a variable is literal, even if it completes a template of the file", () => {
  const piece = (text: string, isValue: boolean) => ({ text, isValue });
  for (const pieces of [
    [piece("{{.Slot}}", true)],
    [piece("{{.", false), piece("Slot", true), piece("}}", false)],
    [piece("{{.Sl", true), piece("ot}}", true)],
    [piece("{", false), piece("{.Slot}}", true)],
    [piece("{{.Unknown}}", true), piece(' {{"{{"}}', true)],
  ]) {
    const parsed = parseTemplate(pieces);
    assert.ok(parsed.ok);
    assert.equal(renderTemplate(parsed.template, { Slot: 7 }), pieces.map(({ text }) => text).join(""));
  }
});

test("a template and literal text that reads the same are different", () => {
  const secret = parseTemplate([{ text: "{{.Slot}}", isValue: true }]);
  assert.ok(secret.ok);
  assert.notDeepEqual(secret.template, template("{{.Slot}}"));
  assert.equal(templateText(secret.template), templateText(template("{{.Slot}}")));
});

test("the source of a template parses to the same template", () => {
  const text = fc
    .array(fc.constantFrom("{", "}", "{{", "}}", ".", "Port", "{{.Slot}}", '"', '{{"{{"}}', " ", "a", "$"), {
      maxLength: 12,
    })
    .map((words) => words.join(""));
  fc.assert(
    fc.property(text, fc.boolean(), text, (first, isValue, second) => {
      const parsed = parseTemplate([
        { text: first, isValue },
        { text: second, isValue: !isValue },
      ]);
      if (parsed.ok) assert.deepEqual(template(templateSource(parsed.template)), parsed.template);
    }),
    { numRuns: 3000 },
  );
});

test("the problem of an unknown name suggests the nearest name, or all names", () => {
  assert.equal(problemOf("a {{.Port}} {{.Prot}}"), 'unknown template "{{.Prot}}", did you mean "Port"?');
  assert.match(problemOf("{{.Hostname}}") ?? "", /expected one of \{\{\.Port\}\}, .*\{\{\.Fd\}\}/u);
  const all = "{{.Port}}{{.Socket}}{{.WorkerID}}{{.Pool}}{{.Slot}}{{.Fd}}";
  assert.equal(problemOf(all), undefined);
  assert.deepEqual(templateNames(template(`a${all}b`)), ["Port", "Socket", "WorkerID", "Pool", "Slot", "Fd"]);
});
