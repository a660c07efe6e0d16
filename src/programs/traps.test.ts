import assert from "node:assert/strict";
import { test } from "node:test";
import { findTraps, type PoolFacts } from "./traps.ts";

type Changes = Partial<Omit<PoolFacts, "words">>;

function trapsOf(command: string, changes: Changes = {}) {
  return findTraps({
    words: command.split(" "),
    env: {},
    configured: new Set(),
    hasManyWorkers: true,
    mode: "proxy",
    stopSignal: "SIGTERM",
    stopSignalTarget: "group",
    workerKeepaliveMs: 1000,
    ...changes,
  });
}

interface Case {
  /** What is wrong: the command and the settings. */
  readonly bad: readonly [command: string, changes?: Changes];
  readonly at: number | string;
  /** What the warning says. */
  readonly says: RegExp;
  /** The same without the trap. */
  readonly good: readonly (readonly [command: string, changes?: Changes])[];
}

const sockets = { mode: "sockets", workerKeepaliveMs: undefined } as const;
const own = { mode: "own", workerKeepaliveMs: undefined } as const;

const CASES: Readonly<Record<string, Case>> = {
  "unicorn stopped by TERM": {
    bad: ["unicorn -c c.rb"],
    at: "stop_signal",
    says: /^unicorn aborts its requests when it receives SIGTERM; write stop_signal: SIGQUIT$/u,
    good: [["unicorn -c c.rb", { stopSignal: "SIGQUIT" }], ["puma -C c.rb"]],
  },
  "php-fpm stopped by TERM": {
    bad: ["php-fpm8.2 -F", own],
    at: "stop_signal",
    says: /stop_signal: SIGQUIT$/u,
    good: [["php-fpm8.2 -F", { ...own, stopSignal: "SIGQUIT" }]],
  },
  "uwsgi without die-on-term": {
    bad: ["nice uwsgi --http-socket :80"],
    at: 1,
    says: /^uwsgi reloads on SIGTERM .* add --die-on-term$/u,
    good: [
      ["uwsgi --http-socket :80 --die-on-term"],
      // The option may be in the file.
      ["uwsgi --ini app.ini"],
      ["uwsgi app.yaml:prod"],
      ["uwsgi --http-socket :80", { env: { UWSGI_DIE_ON_TERM: "1" } }],
      ["uwsgi --http-socket :80", { stopSignal: "SIGQUIT" }],
    ],
  },
  "a reloader": {
    bad: ["python3 -m uvicorn app:app --reload"],
    at: 4,
    says: /^--reload makes uvicorn restart its own processes/u,
    good: [["uvicorn app:app"], ["uvicorn app:app --reload-dir src"], ["./server --reload"]],
  },
  "a daemon": {
    bad: ["gunicorn -D app:app"],
    at: 1,
    says: /^-D makes gunicorn continue in the background/u,
    good: [["gunicorn app:app"], ["gunicorn app:app --env -D=1"]],
  },
  "a detached celery": {
    bad: ["celery -A t worker --detach", own],
    at: 4,
    says: /^--detach makes celery/u,
    good: [["celery -A t worker", own]],
  },
  "workers of its own": {
    bad: ["gunicorn -w 4 app:app"],
    at: 1,
    says: /^-w 4 makes each of the pool's workers a gunicorn with several processes/u,
    good: [
      ["gunicorn -w 4 app:app", { hasManyWorkers: false }],
      ["gunicorn -w 1 app:app"],
      ["gunicorn app:app --threads 4"],
      ["celery worker -w 4", own],
    ],
  },
  "workers of its own in one word": {
    bad: ["uvicorn app:app --workers=4"],
    at: 2,
    says: /^--workers=4 makes/u,
    good: [["uvicorn app:app --workers=1"]],
  },
  "workers of its own by a variable": {
    bad: ["gunicorn app:app", { env: { WEB_CONCURRENCY: "4" } }],
    at: "env",
    says: /^WEB_CONCURRENCY makes .*; set WEB_CONCURRENCY to 1 in env, or add --workers 1$/u,
    good: [
      ["gunicorn app:app", { env: { WEB_CONCURRENCY: "1" } }],
      ["gunicorn app:app -w 1", { env: { WEB_CONCURRENCY: "4" } }],
      ["env WEB_CONCURRENCY=1 gunicorn app:app", { env: { WEB_CONCURRENCY: "4" } }],
      ["hypercorn app:app", { env: { WEB_CONCURRENCY: "4" } }],
    ],
  },
  "uvicorn on one port": {
    bad: ["uvicorn app:app --port 8000", own],
    at: 0,
    says: /^uvicorn does not use SO_REUSEPORT, .*; add server or sockets$/u,
    good: [
      ["uvicorn app:app --port 8000", { ...own, hasManyWorkers: false }],
      ["uvicorn app:app --port 80{{.Slot}}", own],
      ["uvicorn app:app --fd 0", own],
      ["uvicorn app:app --port 8000"],
      ["gunicorn app:app --reuse-port", own],
      ["node server.js", own],
    ],
  },
  "a keep-alive that is too long": {
    bad: ["uvicorn app:app", { workerKeepaliveMs: 5000 }],
    at: "server.worker_keepalive",
    says: /^uvicorn closes idle connections after 5s unless .* set a worker_keepalive of less than 5s$/u,
    good: [
      ["uvicorn app:app", { workerKeepaliveMs: 4999 }],
      ["uvicorn app:app --timeout-keep-alive 65", { workerKeepaliveMs: 60_000 }],
      ["unicorn", { workerKeepaliveMs: 60_000, stopSignal: "SIGQUIT" }],
      ["uvicorn app:app", sockets],
    ],
  },
  "a keep-alive of its own that is too short": {
    bad: ["granian --http1-keep-alive-timeout 900 app:app"],
    at: "server.worker_keepalive",
    says: /^granian closes idle connections after 900ms \(--http1-keep-alive-timeout 900\)/u,
    good: [
      ["granian --http1-keep-alive-timeout 2000 app:app"],
      ["gunicorn --keep-alive 0 app:app"],
      ["gunicorn --keep-alive x app:app"],
    ],
  },
  "gunicorn with its socket twice": {
    bad: ["gunicorn --bind fd://{{.Fd}} app:app", sockets],
    at: 1,
    says: /^gunicorn also finds the shared socket by LISTEN_FDS, .*; remove --bind fd:\/\/\{\{\.Fd\}\}$/u,
    good: [
      ["gunicorn app:app", sockets],
      ["uv run gunicorn --bind fd://3 app:app", sockets],
      ["hypercorn --bind fd://3 app:app", sockets],
      ["gunicorn --bind unix:/run/x app:app"],
    ],
  },
  "gunicorn behind a wrapper that hides its socket": {
    bad: ["uv run gunicorn app:app", sockets],
    at: 2,
    says: /^LISTEN_PID names uv, not gunicorn, .*; add --bind fd:\/\/\{\{\.Fd\}\}$/u,
    good: [
      ["poetry run gunicorn app:app", sockets],
      ["uv run gunicorn app:app"],
      ["uv run uvicorn --fd 3 a:a", sockets],
    ],
  },
  "npm with sockets": {
    bad: ["npm start", sockets],
    at: 0,
    says: /^npm passes no sockets on to the program/u,
    good: [["npm start"], ["node server.js", sockets]],
  },
  "npx with sockets": {
    bad: ["npx next start", sockets],
    at: 1,
    says: /^npx passes no sockets/u,
    good: [["npx next start"]],
  },
  "npm as the only process that is stopped": {
    bad: ["npm start", { stopSignalTarget: "leader" }],
    at: "stop_signal_target",
    says: /^the first process is npm/u,
    good: [["npm start"], ["celery worker", { ...own, stopSignalTarget: "leader" }]],
  },
  "Next.js on the container's address": {
    bad: ["node .next/standalone/server.js", { env: { HOSTNAME: "web-7f9" } }],
    at: 1,
    says: /set HOSTNAME to 127\.0\.0\.1 in env$/u,
    good: [
      ["node .next/standalone/server.js", { env: { HOSTNAME: "::" }, configured: new Set(["HOSTNAME"]) }],
      ["env HOSTNAME=127.0.0.1 node .next/standalone/server.js"],
      ["node .next/standalone/server.js", { ...own, hasManyWorkers: false }],
      ["node server.js"],
    ],
  },
};

for (const [name, { bad, at, says, good }] of Object.entries(CASES))
  test(`${name} is a trap`, () => {
    const traps = trapsOf(...bad);
    assert.deepEqual(
      traps.map((trap) => trap.at),
      [at],
    );
    assert.match(traps[0]?.message ?? "", says);
    for (const each of good) assert.deepEqual(trapsOf(...each), [], each[0]);
  });

test("the value of a variable is in no warning", () => {
  const traps = trapsOf("gunicorn app:app", { env: { WEB_CONCURRENCY: "4321" } });
  assert.equal(traps.length, 1);
  assert.doesNotMatch(JSON.stringify(traps), /4321/u);
});
