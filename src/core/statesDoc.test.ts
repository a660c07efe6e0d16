import assert from "node:assert/strict";
import { test } from "node:test";
import { statesPage } from "./statesDoc.ts";
import { table } from "./worker/table.ts";

/** The cells of each row of the last table, by the name of its event. */
function rows(): Map<string, string[]> {
  const lines = statesPage().slice(statesPage().indexOf("| | ")).trimEnd().split("\n");
  return new Map(
    lines.slice(2).map((line) => {
      const [event = "", ...cells] = line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll("`", ""));
      return [event, cells];
    }),
  );
}

test("the page has a cell for each phase and event, with the name of its function in the table", () => {
  const phases = Object.keys(table) as (keyof typeof table)[];
  const printed = rows();
  assert.deepEqual(new Set(printed.keys()), new Set(Object.keys(table.down)));
  for (const [event, cells] of printed) {
    const names = phases.map((phase) => {
      const name = Object.entries(table[phase]).find(([kind]) => kind === event)?.[1].name;
      return name === "ignore" ? "–" : name === "impossible" ? "✗" : name;
    });
    assert.deepEqual(cells, names, event);
  }
});

test("the diagram contains exactly the phases of the table", () => {
  const diagram = /```mermaid\n([\s\S]*?)```/u.exec(statesPage())?.[1] ?? "";
  const arrows = [...diagram.matchAll(/^ {2}(\S+) --> (\S+?)(?::|$)/gmu)];
  assert.ok(arrows.length > 10);
  for (const name of arrows.flatMap(([, from = "", to = ""]) => [from, to]))
    assert.ok(name === "[*]" || name in table, name);
  assert.deepEqual(
    Object.keys(table).filter((phase) => !diagram.includes(` ${phase} `)),
    [],
  );
});
