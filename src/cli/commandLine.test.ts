import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerError } from "../base/errors.ts";
import { parseCommandLine } from "./commandLine.ts";
import { COMMANDS } from "./commands.ts";

function parse(line: string) {
  return parseCommandLine(
    line.split(" ").filter((word) => word !== ""),
    COMMANDS,
  );
}

/** Name, flags and arguments of what would run. */
function parsed(line: string): unknown {
  const request = parse(line);
  if (request.kind === "nothing") return "nothing";
  if (request.kind === "help") return request.commands.map(({ name }) => name);
  const { flags, arguments: words, rest } = request.given;
  const values = [...flags].map(([name, value]) => [name, value === true || value.length > 1 ? value : value[0]]);
  return [request.command.name, Object.fromEntries(values), ...words, ...(rest === undefined ? [] : ["--", ...rest])];
}

function refusal(line: string): string {
  let message = "";
  assert.throws(
    () => parse(line),
    (error: unknown) => {
      assert.ok(error instanceof ControllerError);
      assert.equal(error.code, "USAGE");
      assert.match(error.hint ?? "", /^Run `monoceros.* --help`\.$/u);
      message = error.message;
      return true;
    },
    line,
  );
  return message;
}

test("flags and arguments may come in any order", () => {
  assert.deepEqual(parsed("stop --json web-0 --socket /s"), ["stop", { json: true, socket: "/s" }, "web-0"]);
  assert.deepEqual(parsed("events -f --since=5"), ["events", { follow: true, since: "5" }]);
  assert.deepEqual(parsed("run -dc f.yaml"), ["run", { debug: true, config: "f.yaml" }]);
  assert.deepEqual(parsed("config show -cf.yaml"), ["config show", { config: "f.yaml" }]);
  assert.deepEqual(parsed("start -- -x"), ["start", {}, "-x"]);
});

test("the command line of the original works", () => {
  assert.deepEqual(parsed("-c f.yaml -d"), ["run", { config: "f.yaml", debug: true }]);
  assert.deepEqual(parsed("-k -c f.yaml"), ["run", { config: "f.yaml", validate: true }]);
  assert.deepEqual(parsed("--config f.yaml --validate --debug"), [
    "run",
    { config: "f.yaml", validate: true, debug: true },
  ]);
  for (const spelling of ["--version", "-version", "-v", "--v"])
    assert.deepEqual(parsed(spelling), ["version", { version: true }], spelling);
});

test("the command line of the original works in every spelling of Go's flag package", () => {
  const expected = ["run", { config: "f.yaml", debug: true }];
  for (const config of ["-config f.yaml", "-config=f.yaml", "--config=f.yaml", "-c=f.yaml", "--c f.yaml", "--c=f.yaml"])
    for (const debug of ["-d", "--d", "-debug", "--debug"]) assert.deepEqual(parsed(`${config} ${debug}`), expected);
  assert.deepEqual(parsed("-validate -c=f.yaml"), ["run", { validate: true, config: "f.yaml" }]);
  // Letters may still be joined, and a command reads its flags in the usual way only.
  assert.deepEqual(parsed("-dc f.yaml"), expected.with(1, { debug: true, config: "f.yaml" }));
  assert.match(refusal("run -config f.yaml"), /^unexpected argument "f\.yaml"/u);
});

test("help works for all commands, a group and each command", () => {
  const names = COMMANDS.map(({ name }) => name);
  assert.deepEqual(parsed("--help"), names);
  assert.deepEqual(parsed("-h"), names);
  assert.deepEqual(parsed("help"), names);
  assert.deepEqual(parsed("config --help"), ["config show", "config schema"]);
  for (const name of names) {
    assert.deepEqual(parsed(`${name} --help`), [name]);
    assert.deepEqual(parsed(`help ${name}`), [name]);
  }
  assert.equal(parsed(""), "nothing");
});

test("an unknown command or flag suggests the nearest name", () => {
  assert.equal(refusal("statsu"), 'unknown command "statsu", did you mean "status"?');
  assert.equal(refusal("xyz"), 'unknown command "xyz"');
  assert.equal(refusal("status --scoket /s"), 'unknown flag --scoket, did you mean "--socket"?');
  assert.equal(refusal("status -x"), "unknown flag -x");
  assert.equal(refusal("--verison"), 'unknown flag --verison, did you mean "--version"?');
  assert.equal(refusal("config"), "config: expected show or schema");
  assert.equal(refusal("config shwo"), 'config: expected show or schema, got "shwo", did you mean "show"?');
  assert.equal(refusal("__proto__"), 'unknown command "__proto__"');
  assert.equal(refusal("status --__proto__"), "unknown flag --__proto__");
});

test("missing and unexpected values and arguments are rejected", () => {
  assert.equal(refusal("-d"), "missing -c FILE, or -- and a command");
  assert.equal(refusal("validate"), "missing flag -c FILE");
  assert.equal(refusal("-c"), "-c requires a value: FILE");
  assert.equal(refusal("-c -d"), "-c requires a value: FILE");
  assert.equal(refusal("run --config="), "--config requires a value: FILE");
  assert.equal(refusal("status --json=yes"), '--json takes no value, got "yes"');
  assert.equal(refusal("start"), "missing argument POOL|WORKER");
  assert.equal(refusal("start a b"), 'unexpected argument "b"');
  assert.match(refusal("-c f.yaml more"), /^unexpected argument "more"/u);
  assert.equal(refusal("-c f.yaml status"), "flags come after the command: monoceros status …");
});

test("the words after -- are a command, which no flag is read from", () => {
  const expected = ["run", { replicas: "4", env: ["A=1", "B=2"] }, "--", "x", "-n", "5", "--", "-config", "f"];
  assert.deepEqual(parsed("run -n 4 -e A=1 --env B=2 -- x -n 5 -- -config f"), expected);
  assert.deepEqual(parsed("-n 4 -e A=1 -env B=2 -- x -n 5 -- -config f"), expected);
  assert.deepEqual(parsed("run -n4 -n 5 -- x"), ["run", { replicas: "5" }, "--", "x"]);
  assert.deepEqual(parsed("run --help -- x"), ["run"]);
  // For other commands, -- only ends the flags.
  assert.deepEqual(parsed("start -- -web"), ["start", {}, "-web"]);
});

test("exactly one of -c and a command after -- is needed", () => {
  assert.equal(refusal("run"), "missing -c FILE, or -- and a command");
  assert.equal(refusal("run -c f.yaml -- x"), "-c FILE and a command after -- exclude each other; give one of them");
  assert.equal(refusal("run --"), "missing COMMAND… after --");
  assert.equal(
    refusal("run -n 4 uvicorn"),
    'unexpected argument "uvicorn"; write monoceros run -- uvicorn … to run a command',
  );
  assert.equal(refusal("run a -- b"), 'unexpected argument "a"');
});
