// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the syntax of variables is what is tested
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseEnvFile } from "./envFile.ts";

const ENVIRONMENT = { HOST: "db", EMPTY: "", SECRET: "a${HOST}$$ \\n '\" #" };

function readVar(line: string): string | undefined {
  const parsed = parseEnvFile(`${line}\nNEXT=1\n`, ENVIRONMENT);
  assert.ok(parsed.ok, `${line}: ${JSON.stringify(parsed)}`);
  assert.equal(parsed.variables.get("NEXT"), "1", line);
  assert.equal(parsed.variables.size, 2, line);
  return parsed.variables.get("VAR");
}

/** The examples of docker compose's documentation come first. */
const VALUES: readonly (readonly [line: string, value: string])[] = [
  ["VAR=VAL", "VAL"],
  ['VAR="VAL"', "VAL"],
  ["VAR='VAL'", "VAL"],
  ["VAR=VAL # comment", "VAL"],
  ["VAR=VAL# not a comment", "VAL# not a comment"],
  ['VAR="VAL # not a comment"', "VAL # not a comment"],
  ['VAR="VAL" # comment', "VAL"],
  ["VAR='$HOST'", "$HOST"],
  ["VAR='${HOST}'", "${HOST}"],
  ["VAR='Let\\'s go!'", "Let's go!"],
  ['VAR="{\\"hello\\": \\"json\\"}"', '{"hello": "json"}'],
  ['VAR="some\\tvalue"', "some\tvalue"],
  ["VAR='some\\tvalue'", "some\\tvalue"],
  ["VAR=some\\tvalue", "some\\tvalue"],
  ["VAR='SOME\nVALUE'", "SOME\nVALUE"],
  ["VAR=$HOST", "db"],
  ["VAR=${HOST}", "db"],
  ["VAR=${HOST:-x}${NONE:-y}${EMPTY:-z}", "dbyz"],
  ["VAR=${HOST-x}${NONE-y}${EMPTY-z}", "dby"],
  ["VAR=${HOST:+x}${NONE:+y}${EMPTY:+z}", "x"],
  ["VAR=${HOST+x}${NONE+y}${EMPTY+z}", "xz"],
  ["VAR=${HOST?no}${EMPTY?no}", "db"],
  ["VAR=${NONE:-${ALSO:-deep}}", "deep"],
  ["VAR=$$HOST and $${HOST}", "$HOST and ${HOST}"],
  // Its parser
  ["VAR = 4", "4"],
  ["VAR: 4", "4"],
  ["  export VAR=2", "2"],
  ["export\tVAR = 'x'#c", "x"],
  ["VAR=", ""],
  ['VAR=""', ""],
  ["VAR=''", ""],
  ["VAR= # comment", ""],
  ["VAR=#value", "#value"],
  ["VAR=a#b", "a#b"],
  ["VAR=a\t# comment", "a"],
  ["VAR=it's", "it's"],
  ['VAR=a "quoted" word', 'a "quoted" word'],
  ['VAR="a\nb\\nc"', "a\nb\nc"],
  ['VAR="\\a\\b\\f\\r\\v\\\\\\""', '\u0007\b\f\r\v\\"'],
  ['VAR="\\0101\\q\\x41\\01"', "A\\q\\x41\\01"],
  ['VAR="\\$HOST \\${HOST} $HOST"', "$HOST ${HOST} db"],
  ['VAR="\\\\$HOST"', "\\db"],
  ["VAR='a\\\\'", "a\\\\"],
  ["VAR=\\$HOST", "\\db"],
  ["VAR=windows\r", "windows"],
  ["VAR='windows'\r", "windows"],
  ["VAR=a b  ", "a b"],
  ["VAR=postgres://u:p@h/db?a=b&c=%20", "postgres://u:p@h/db?a=b&c=%20"],
  ["VAR=p$ 5$ $1 a$", "p$ 5$ $1 a$"],
  ["VAR={{.Slot}} %s {a: b} yes", "{{.Slot}} %s {a: b} yes"],
  ["VAR=caf\udce9", "caf\udce9"],
];

for (const [line, value] of VALUES) {
  test(`an env_file reads ${JSON.stringify(line)}`, () => assert.equal(readVar(line), value));
}

test("the value of a variable is not expanded again", () => {
  for (const line of ["VAR=$SECRET", 'VAR="${SECRET}"', "VAR=${NONE:-$SECRET}"])
    assert.equal(readVar(line), ENVIRONMENT.SECRET);
});

test("earlier lines override the environment, and the last line with a name wins", () => {
  const parsed = parseEnvFile("\ufeff# file\n\nHOST=mine\nURL=x/$HOST\nHOST=last\n  # end", ENVIRONMENT);
  assert.ok(parsed.ok);
  assert.deepEqual(
    [...parsed.variables],
    [
      ["HOST", "last"],
      ["URL", "x/mine"],
    ],
  );
});

test("names with dots and names such as __proto__ are ordinary variables", () => {
  const parsed = parseEnvFile("__proto__=a\nspring.datasource-url=b\nX=${toString:-none}\n", {});
  assert.ok(parsed.ok);
  assert.deepEqual(
    Object.fromEntries(parsed.variables),
    Object.fromEntries([
      ["__proto__", "a"],
      ["spring.datasource-url", "b"],
      ["X", "none"],
    ]),
  );
});

const PROBLEMS: readonly (readonly [line: string, message: RegExp])[] = [
  ["hunter2", /^expected NAME=value; a name without a value is not accepted$/u],
  ["export VAR", /^expected NAME=value; a name/u],
  ["no equals here", /^expected NAME=value$/u],
  ["=hunter2", /^expected NAME=value$/u],
  ["1ST=hunter2", /^a name must consist of letters/u],
  ["A[0]=hunter2", /^a name must consist of letters/u],
  ["ä=hunter2", /^a name must consist of letters/u],
  ["'A'=hunter2", /^expected NAME=value$/u],
  ['A="hunter2', /^the value begins with ", but no closing " follows$/u],
  ["A='hunter2\\'", /^the value begins with ', but no closing ' follows$/u],
  ['A="v" hunter2', /^only a comment may follow the closing "$/u],
  ["A='v'hunter2", /^only a comment may follow the closing '$/u],
  ["A=hunter2\0", /^the value of A contains a zero byte$/u],
  ['A="hunter2\\0000"', /^the value of A contains a zero byte$/u],
  ["A=hunter2$none", /^variable none is not set .*single quotes/u],
  ["A=hunter2${none}", /^variable none is not set/u],
  ["A=${none:?say it}", /^variable none is required: say it$/u],
  ["A=${EMPTY:?}", /^variable EMPTY is required$/u],
  ["A=hunter2${", /^\$\{ without a closing brace; put the value in single quotes/u],
  ["A=hunter2${a b}", /^expected \$\{NAME\}/u],
  ["A=hunter2${}", /^expected \$\{NAME\}/u],
];

for (const [line, message] of PROBLEMS) {
  test(`an env_file refuses ${JSON.stringify(line)} with its line, and does not show the value`, () => {
    const parsed = parseEnvFile(`# first\nX='\n'\n${line}`, ENVIRONMENT);
    assert.ok(!parsed.ok);
    assert.equal(parsed.problems.length, 1);
    assert.equal(parsed.problems[0]?.line, 4);
    assert.match(parsed.problems[0]?.message ?? "", message);
    assert.doesNotMatch(parsed.problems[0]?.message ?? "", /hunter2/u);
  });
}

test("all problems of an env_file are reported at once, in order, up to a limit", () => {
  const parsed = parseEnvFile("what\nA='x' y\nB=ok\n2=x\nC=\"a\nb\" c\nD=$none\n", {});
  assert.ok(!parsed.ok);
  assert.deepEqual(
    parsed.problems.map(({ line }) => line),
    [1, 2, 4, 6, 7],
  );
  const many = parseEnvFile("what\n".repeat(1000));
  assert.equal(!many.ok && many.problems.length, 20);
});

test("any text in single quotes is read back unchanged, and any text is read or refused", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary" }).filter((text) => !/[\\\0]/u.test(text)),
      (text) => {
        const parsed = parseEnvFile(`A='${text.replaceAll("'", "\\'")}'\n`);
        assert.ok(parsed.ok);
        assert.equal(parsed.variables.get("A"), text);
      },
    ),
  );
  const words = fc
    .array(fc.constantFrom("A", "=", "'", '"', "\\", "$", "{", "}", ":-", "#", " ", "\n", "\r", "export ", "\0", "x"), {
      maxLength: 40,
    })
    .map((parts) => parts.join(""));
  fc.assert(
    fc.property(words, (text) => {
      const parsed = parseEnvFile(text, { A: "1" });
      if (!parsed.ok) for (const { line } of parsed.problems) assert.ok(line >= 1 && line <= text.split("\n").length);
    }),
    { numRuns: 3000 },
  );
});
