import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { stalePages } from "../scripts/docs.ts";
import { ERROR_CODES } from "../src/base/errors.ts";
import { ON_RELOAD } from "../src/config/docs.ts";
import { formatProblem, parseConfig } from "../src/config/load.ts";
import { changeClasses } from "./support/changeClasses.ts";

test("generated pages are up to date (run scripts/docs.ts)", () => {
  assert.deepEqual(stalePages(), []);
});

test("every error code is used by the code and provoked by a test", () => {
  const files = readdirSync(".", { recursive: true, encoding: "utf8" }).filter(
    (file) => /^(?:src|test|cmd)\/.*\.ts$/u.test(file) && !file.endsWith("base/errors.ts"),
  );
  const code = files
    .filter((file) => !file.endsWith(".test.ts"))
    .map((file) => readFileSync(file, "utf8"))
    .join("\n");
  const tests = files
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => readFileSync(file, "utf8"))
    .join("\n");
  const names = Object.keys(ERROR_CODES);
  assert.deepEqual(
    names.filter((name) => !code.includes(`"${name}"`)),
    [],
    "codes that nothing uses",
  );
  assert.deepEqual(
    names.filter((name) => !tests.includes(name)),
    [],
    "codes without a test",
  );
});

const PAGE_FILES = [
  ...readdirSync(".").filter((file) => file.endsWith(".md")),
  ...readdirSync("docs", { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".md"))
    .map((file) => join("docs", file)),
];

/** The anchors that GitHub gives to the headings of a page. */
function anchorsOf(page: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ""] of withoutCode(readFileSync(page, "utf8")).matchAll(/^#+ (.+)$/gmu)) {
    const text = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/gu, "$1").toLowerCase();
    const slug = text.replaceAll(/[^\p{L}\p{N}_ -]/gu, "").replaceAll(" ", "-");
    let anchor = slug;
    for (let count = 1; anchors.has(anchor); count += 1) anchor = `${slug}-${count}`;
    anchors.add(anchor);
  }
  return anchors;
}

function withoutCode(text: string): string {
  return text.replaceAll(/^```.*?^```$/gmsu, "");
}

test("every relative link and anchor resolves", () => {
  const dead = PAGE_FILES.flatMap((page) => {
    const text = withoutCode(readFileSync(page, "utf8"));
    const links = [...text.matchAll(/\]\(([^)\s]+)|(?:src|srcset)="([^"]+)"/gu)].map(
      ([, link, image]) => link ?? image ?? "",
    );
    return links
      .filter((link) => {
        if (/^[a-z]+:/u.test(link)) return false;
        const [path = "", anchor] = link.split("#");
        const target = path === "" ? page : join(dirname(page), path);
        return !existsSync(target) || (anchor !== undefined && !anchorsOf(target).has(anchor));
      })
      .map((link) => `${page} → ${link}`);
  });
  assert.deepEqual(dead, []);
});

test("the configurations that the pages show are valid", () => {
  const configurations = PAGE_FILES.flatMap((page) =>
    [...readFileSync(page, "utf8").matchAll(/^```yaml\n(.*?)^```$/gmsu)].map(([, text = ""]) => ({ page, text })),
  ).filter(({ text }) => /^supervisor:$[\s\S]*^ {2}workers:$/mu.test(text));
  assert.ok(configurations.length > 10);
  for (const { page, text } of configurations) {
    const parsed = parseConfig(text, page, {});
    assert.ok(parsed.ok, parsed.ok ? "" : parsed.problems.map((problem) => formatProblem(page, problem)).join("\n"));
  }
});

test("a page that introduces a file of examples/ with a colon shows that file", () => {
  const shown = PAGE_FILES.flatMap((page) =>
    [...readFileSync(page, "utf8").matchAll(/\]\(([^)]*examples\/[^)]+)\):\n\n```\w+\n(.*?)^```$/gmsu)].map(
      ([, path = "", text]) => ({ file: join(dirname(page), path), text }),
    ),
  );
  assert.ok(shown.length > 0);
  for (const { file, text } of shown) assert.equal(text, readFileSync(file, "utf8"), file);
});

test("the figures of README.md are those of the pages with the measurements", () => {
  const measured = ["benchmarks", "benchmarks-traffic", "reliability"]
    .map((page) => readFileSync(`docs/${page}.md`, "utf8"))
    .join("\n");
  const figures = [...readFileSync("README.md", "utf8").matchAll(/\*\*([\d,.]+)\*\*/gu)].map(
    ([, figure = ""]) => figure,
  );
  assert.ok(figures.length > 5);
  assert.deepEqual(
    figures.filter((figure) => !new RegExp(`(?<![\\d,.])${RegExp.escape(figure)}(?![\\d,])`, "u").test(measured)),
    [],
  );
});

test("test files named in SECURITY.md exist", () => {
  const named = [...readFileSync("SECURITY.md", "utf8").matchAll(/`([\w/.]+\.test\.ts)`/gu)].map(
    ([, path = ""]) => path,
  );
  assert.ok(named.length > 0);
  assert.deepEqual(
    named.filter((path) => !existsSync(path)),
    [],
  );
});

test("the examples of the reload table in docs/operation.md have the class of their row", () => {
  const page = readFileSync("docs/operation.md", "utf8");
  const classes = new Map(
    [...changeClasses()].map(([path, found]) => [path.replace("supervisor.workers[].", ""), found]),
  );
  for (const [change, meaning] of Object.entries(ON_RELOAD)) {
    const [example = ""] = page.match(new RegExp(`^\\| \\*\\*${meaning}\\*\\*[^|]*`, "mu")) ?? [];
    const keys = [...example.matchAll(/`([^`]+)`/gu)].map(([, key = ""]) => key);
    assert.ok(keys.length > 0, meaning);
    for (const key of keys) {
      const inside = [...classes].filter(
        ([path]) => path === key || (path.startsWith(key) && /[.[]/u.test(path[key.length] ?? "")),
      );
      assert.ok(inside.length > 0, `the schema has no ${key}`);
      for (const [path, found] of inside)
        assert.ok(
          found.some((each) => each === change),
          `${path} ${meaning}`,
        );
    }
  }
});
