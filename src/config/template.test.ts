import assert from "node:assert/strict";
import { test } from "node:test";
import { expandTemplate, templateNames, templateProblem } from "./template.ts";

test("known templates are replaced, with or without spaces", () => {
  const values = { Port: 9090, WorkerID: "web-0", Slot: 0 };
  assert.equal(expandTemplate("--bind=127.0.0.1:{{.Port}}", values), "--bind=127.0.0.1:9090");
  assert.equal(expandTemplate("{{ .WorkerID }}/{{.Slot}}", values), "web-0/0");
});

test("a template without a value and other double braces stay as they are", () => {
  for (const text of ["{{.Fd}}", "{{name}}", '{"a":{"b":{}}}', "{{.Port", "{{.{{.Port", "no braces"]) {
    assert.equal(expandTemplate(text, {}), text);
  }
});

test("a value that looks like a template is not expanded again", () => {
  assert.equal(expandTemplate("{{.Pool}}", { Pool: "{{.Port}}$&", Port: 1 }), "{{.Port}}$&");
});

test("an unknown name is a problem that names the nearest one, or all", () => {
  assert.equal(templateProblem("a {{.Port}} {{.Prot}}"), 'unknown template "{{.Prot}}", did you mean "Port"?');
  assert.match(templateProblem("{{.Hostname}}") ?? "", /expected one of \{\{\.Port\}\}, .*\{\{\.Fd\}\}/u);
  assert.equal(templateProblem("{{.Port}}{{.Socket}}{{.WorkerID}}{{.Pool}}{{.Slot}}{{.Fd}}"), undefined);
  assert.deepEqual(templateNames("{{.A}}{{ .B }}"), ["A", "B"]);
});
