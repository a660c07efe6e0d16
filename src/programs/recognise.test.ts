import assert from "node:assert/strict";
import { test } from "node:test";
import { PROGRAMS, WRAPPERS } from "./catalog.ts";
import { recognise } from "./recognise.ts";

/** Command lines, the program that each runs, and the word that names it. */
const KNOWN: readonly (readonly [command: string, program: string, word: string])[] = [
  ["uvicorn app:app", "uvicorn", "uvicorn"],
  ["/srv/venv/bin/uvicorn app:app", "uvicorn", "/srv/venv/bin/uvicorn"],
  ["python -m uvicorn app:app", "uvicorn", "uvicorn"],
  ["python3.11 -X dev -u -m uvicorn app:app", "uvicorn", "uvicorn"],
  ["/usr/bin/python3 /srv/venv/bin/gunicorn app:app", "gunicorn", "/srv/venv/bin/gunicorn"],
  ["uv run uvicorn app:app", "uvicorn", "uvicorn"],
  ["uv run --with redis -- python -m uvicorn app:app", "uvicorn", "uvicorn"],
  ["poetry run gunicorn app:app", "gunicorn", "gunicorn"],
  ["env A=1 B= gunicorn app:app", "gunicorn", "gunicorn"],
  ["ddtrace-run gunicorn app:app", "gunicorn", "gunicorn"],
  ["newrelic-admin run-program hypercorn app:app", "hypercorn", "hypercorn"],
  ["nice -n 5 granian --interface asgi app:app", "granian", "granian"],
  ["fastapi run main.py", "fastapi", "fastapi"],
  ["uwsgi --ini app.ini", "uwsgi", "uwsgi"],
  ["baseplate-serve app.ini", "baseplate-serve", "baseplate-serve"],
  ["celery -A tasks worker", "celery", "celery"],
  ["bundle exec puma -t 4", "puma", "puma"],
  ["bundle exec --keep-file-descriptors puma", "puma", "puma"],
  ["puma-6.4 -t 4", "puma", "puma-6.4"],
  ["ruby3.1 -I lib bin/puma", "puma", "bin/puma"],
  ["unicorn_rails -c c.rb", "unicorn", "unicorn_rails"],
  ["thin start", "thin", "thin"],
  ["bundle exec sidekiq", "sidekiq", "sidekiq"],
  ["node server.js", "node", "node"],
  ["nodejs --import ./trace.js server.js", "node", "nodejs"],
  ["node", "node", "node"],
  ["node .next/standalone/server.js", "next (standalone)", ".next/standalone/server.js"],
  ["node node_modules/next/dist/bin/next start", "next", "node_modules/next/dist/bin/next"],
  ["npx next start", "next", "next"],
  ["pnpm exec next start", "next", "next"],
  ["./node_modules/.bin/next start", "next", "./node_modules/.bin/next"],
  ["nest start", "nest", "nest"],
  ["npm start", "npm", "npm"],
  ["yarn run serve", "yarn", "yarn"],
  ["php -S localhost:80 -t public", "php -S", "php"],
  ["php8.2 -S localhost:80", "php -S", "php8.2"],
  ["php-fpm8.2 -F", "php-fpm", "php-fpm8.2"],
  ["tini -- node server.js", "node", "node"],
];

test("a program is recognised by its name, through interpreters and wrappers", () => {
  for (const [command, program, word] of KNOWN) {
    const words = command.split(" ");
    const found = recognise(words);
    assert.deepEqual([found?.program.name, words[found?.at ?? -1]], [program, word], command);
  }
});

test("other commands are not recognised", () => {
  for (const command of [
    "",
    "./server",
    "python app.py",
    "python -c uvicorn",
    "python -m flask run",
    "python -m",
    "uv pip install uvicorn",
    "uv run",
    "env",
    "env A=1",
    "next build",
    "npm install",
    "php artisan queue:work",
    "ruby app.rb",
    "constructor",
    "env constructor=1",
  ])
    assert.equal(recognise(command.split(" ")), undefined, command);
});

test("wrappers and the variables that env sets are reported", () => {
  const found = recognise("env -u X A=1 B=a=b uv run gunicorn app:app".split(" "));
  assert.deepEqual(
    found?.wrappers.map(({ executables }) => executables[0]),
    ["env", "uv"],
  );
  assert.deepEqual(found?.env, { A: "1", B: "a=b" });
});

test("each program and wrapper is known by its own names", () => {
  const names = [...PROGRAMS, ...WRAPPERS].flatMap(({ executables }) => executables);
  // Package managers are a program with start, and a wrapper with exec.
  const repeated = names.filter((name, index) => names.indexOf(name) !== index);
  assert.deepEqual(repeated, ["npm", "pnpm", "yarn"]);
  for (const { name, serves, port } of PROGRAMS) assert.equal(port !== undefined, serves === "http", name);
});
