// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these tests use the syntax of variables
/** For any input the loader returns a configuration, or at least one problem with its position. It never throws. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { parseConfig } from "./load.ts";
import { formatConfig } from "./show.ts";

type Tree = null | boolean | number | string | Tree[] | { [key: string]: Tree };

const VALID: Tree = {
  admin: { port: 9000, address: "127.0.0.1" },
  supervisor: {
    shutdown_timeout: "60s",
    workers: [
      {
        name: "web",
        replicas: 4,
        exec: "./server",
        args: ["--port", "{{.Port}}", 5],
        env: { KEY: "${VALUE:-x}" },
        rlimits: { nofile: { soft: 1, hard: 2 }, core: "unlimited" },
        signal_timeout: "10s",
        restart: { backoff: { initial: "100ms", max: "30s" }, on_exhausted: "shutdown" },
        limits: { lifespan: "4h", jitter_ratio: 0.1, memory: "512MiB", memory_hard: "1GB" },
        probes: { readiness: { http: { path: "/r" } } },
        rolling: { max_surge: "25%", max_unavailable: 0 },
        sockets: [{ name: "http", listen: "0.0.0.0:8080" }],
        server: { port_arg: { name: "--port", start_port: 9090 }, listener_port: 10000 },
      },
      { name: "jobs", exec: "./jobs", umask: "022" },
    ],
  },
};

const junk: fc.Arbitrary<Tree> = fc.oneof(
  fc.constantFrom<Tree>(null, true, -1, 0, 1e300, 65_536, "", "auto", "10s", "5%", "1GiB", "${X}", "${", "{{.Prot}}"),
  fc.constantFrom<Tree>(
    [],
    {},
    [[]],
    [null],
    { "": null },
    { __proto__x: 1 },
    "\u0000",
    "*a",
    "&a",
    "<<",
    "9".repeat(500),
  ),
  fc.string({ unit: "binary", maxLength: 20 }),
  fc.double() as fc.Arbitrary<Tree>,
  fc.integer({ min: 1, max: 200 }).map((depth) => nest(depth)),
);

function nest(depth: number): Tree {
  let tree: Tree = "deep";
  for (let level = 0; level < depth; level++) tree = level % 2 === 0 ? [tree] : { limits: tree };
  return tree;
}

interface Mutation {
  readonly at: number;
  readonly kind: "rename" | "replace" | "delete" | "duplicate";
  readonly key: string;
  readonly value: Tree;
}

const mutation: fc.Arbitrary<Mutation> = fc.record({
  at: fc.nat(200),
  kind: fc.constantFrom("rename", "replace", "delete", "duplicate"),
  key: fc.oneof(
    fc.constantFrom("replica", "Name", "__proto__", "constructor", "<<", "server", "limits", "args", ""),
    fc.string({ unit: "binary", maxLength: 8 }),
  ),
  value: junk,
});

/** Applies a mutation to the nth node of the tree, counted over all maps and lists. */
function mutate(tree: Tree, { at, kind, key, value: drawn }: Mutation): Tree {
  // A later mutation may change the value, and shrinking a failure uses it again.
  const value = structuredClone(drawn);
  const places: { readonly holder: Tree[] | { [key: string]: Tree }; readonly key: string }[] = [];
  const collect = (node: Tree): void => {
    if (typeof node !== "object" || node === null) return;
    for (const [name, child] of Object.entries(node)) {
      places.push({ holder: node, key: name });
      collect(child);
    }
  };
  collect(tree);
  const place = places[at % Math.max(places.length, 1)];
  if (place === undefined) return tree;
  const { holder } = place;
  if (Array.isArray(holder)) {
    const index = Number(place.key);
    if (kind === "delete") holder.splice(index, 1);
    else if (kind === "duplicate") holder.push(structuredClone(holder[index] ?? null));
    else holder[index] = value;
    return tree;
  }
  const before = holder[place.key] ?? null;
  if (kind === "delete" || kind === "rename") delete holder[place.key];
  if (kind === "rename")
    Object.defineProperty(holder, key, { value: before, enumerable: true, configurable: true, writable: true });
  else if (kind === "duplicate") holder[key === "__proto__" ? "x" : key] = structuredClone(before);
  else if (kind === "replace") holder[place.key] = value;
  return tree;
}

function answers(text: string): void {
  const parsed = parseConfig(text, "fuzz.yaml", { X: "7", EMPTY: "" });
  if (parsed.ok) {
    const again = parseConfig(formatConfig(parsed.config, "json"), "again", {});
    assert.ok(again.ok, "the shown configuration loads again");
    return;
  }
  assert.ok(parsed.problems.length > 0, "a refused file has a problem");
  for (const { line, column, message } of parsed.problems) {
    assert.ok(line >= 1 && column >= 1 && message !== "", `${line}:${column}: ${message}`);
  }
}

test("mutated configurations are accepted or refused with a position", () => {
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 3 }), fc.boolean(), (mutations, asJson) => {
      const tree = mutations.reduce(mutate, structuredClone(VALID));
      answers(asJson ? JSON.stringify(tree) : stringify(tree));
    }),
    { numRuns: 1500 },
  );
});

const VALID_TEXT = stringify(VALID);

test("configurations with removed and inserted bytes are accepted or refused with a position", () => {
  const noise = fc.oneof(
    fc.constantFrom(
      "\t",
      "\n",
      ": ",
      "- ",
      "{",
      "}",
      "[",
      "]",
      "&a ",
      "*a",
      "<<: *a\n",
      "\u0000",
      "\r",
      "---\n",
      "? ",
      "|",
      "%",
    ),
    fc.string({ unit: "binary", maxLength: 5 }),
  );
  fc.assert(
    fc.property(fc.nat(VALID_TEXT.length), fc.nat(20), noise, (start, length, inserted) => {
      answers(VALID_TEXT.slice(0, start) + inserted + VALID_TEXT.slice(start + length));
    }),
    { numRuns: 1500 },
  );
});

test("arbitrary text is accepted or refused with a position", () => {
  const words = fc
    .array(
      fc.constantFrom(
        ..."admin supervisor workers name exec : - \n [ ] { } & * a << , ' \" | > # % ! ? $ ${X} \t".split(" "),
        "  ",
      ),
      {
        maxLength: 60,
      },
    )
    .map((parts) => parts.join(""));
  fc.assert(fc.property(fc.oneof(words, fc.string({ unit: "binary", maxLength: 200 })), answers), { numRuns: 1800 });
});

test("arbitrary bytes are accepted or refused with a position", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => answers(new TextDecoder().decode(bytes))),
    { numRuns: 700 },
  );
});
