// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the output contains variables
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReadImport, readImport, sourceOf } from "../../../test/support/importing.ts";
import { SourceError } from "../draft.ts";
import { parseEnvironment } from "./expand.ts";
import { parseIni } from "./ini.ts";
import { includedFiles, translateSupervisord } from "./translate.ts";

function translate(text: string): ReadImport {
  return readImport(translateSupervisord([sourceOf(text, "shop.conf")]));
}

test("the INI dialect: comments, both delimiters, continued values, keys in any case", () => {
  const [section] = parseIni(
    [
      "; a comment",
      "[program:web]  ; here too",
      "Command: a ; b",
      "# no",
      "env=x=1,",
      "  y=2 ; z",
      "url = http://a;b",
      "empty=",
    ].join("\n"),
    "f",
  );
  assert.deepEqual(section, {
    name: "program:web",
    where: "f:2",
    entries: [
      { key: "command", value: "a", where: "f:3" },
      { key: "env", value: "x=1,\ny=2", where: "f:5" },
      { key: "url", value: "http://a;b", where: "f:7" },
      { key: "empty", value: "", where: "f:8" },
    ],
  });
  assert.throws(
    () => parseIni("a=b", "f"),
    /^SourceError: f:1: expected a section such as \[program:web\], got "a=b"/u,
  );
  assert.throws(() => parseIni("[a]\nnothing", "f"), /f:2: expected key=value/u);
});

test("environment is read with its quoting", () => {
  assert.deepEqual(parseEnvironment(`A="x,y", B='z "q"',C=1,\nPATH="/a:/b"`), [
    ["A", "x,y"],
    ["B", 'z "q"'],
    ["C", "1"],
    ["PATH", "/a:/b"],
  ]);
  assert.equal(parseEnvironment('A="x'), undefined);
  assert.equal(parseEnvironment("A"), undefined);
});

test("a program with every translated key becomes a pool", () => {
  const { workers, ignored } = translate(`[program:queue]
command=%(here)s/run --slot %(process_num)d --port %(ENV_PORT)s "two words" %%x
numprocs=3
directory=/srv/%(program_name)s
environment=A="%(ENV_HOME)s/a",B='{{.Slot}} \${X}',N=%(process_num)02d
user=shop
umask=027
autorestart=unexpected
exitcodes=0,3,4
startsecs=10
startretries=5
stopsignal=INT
stopwaitsecs=600
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=/var/log/q-%(process_num)02d.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=4
`);
  assert.deepEqual(ignored, []);
  assert.deepEqual(workers, [
    {
      name: "queue",
      replicas: 3,
      exec: "/srv/here/run",
      args: ["--slot", "{{.Slot}}", "--port", "${PORT}", "two words", "%x"],
      env: { A: "${HOME}/a", B: '{{"{{"}}.Slot}} $${X}', N: "{{.Slot}}" },
      cwd: "/srv/queue",
      user: "shop",
      umask: "027",
      restart: { policy: "on-failure", expected_exit_codes: [3, 4], on_exhausted: "give-up-worker" },
      rolling: { min_ready: "10s" },
      max_restarts: 5,
      stop_signal: "SIGINT",
      signal_timeout: "10m",
      logs: { file: { path: "/var/log/q.log", max_size: "20MiB", keep: 4, only: true } },
    },
  ]);
});

test("defaults of supervisord that differ from ours are written", () => {
  const { workers, yaml } = translate("[program:a]\ncommand=a\nstdout_logfile=/l");
  assert.deepEqual(workers, [
    {
      name: "a",
      exec: "a",
      restart: { policy: "on-failure" },
      stop_signal_target: "leader",
      logs: { file: { path: "/l", only: true, max_size: "50MiB", keep: 10 } },
    },
  ]);
  assert.match(yaml, /policy: on-failure # supervisord's default\n/u);
});

test("priorities become an order, and a program that ends comes before the others", () => {
  const { workers } = translate(`[program:late]
command=late
[program:db]
command=db
priority=1
[program:cache]
command=cache
priority=1
[program:setup]
command=setup
priority=2
autorestart=false
startsecs=0
[group:g]
programs=late
priority=3
`);
  assert.deepEqual(
    workers.map(({ name, depends_on, type }) => [name, depends_on, type]),
    [
      ["db", undefined, undefined],
      ["cache", undefined, undefined],
      ["setup", { db: "started", cache: "started" }, "oneshot"],
      ["late", { setup: "completed" }, undefined],
    ],
  );
});

test("a program that does not start by itself is printed as a comment", () => {
  const { workers, yaml, disabled, reasons } = translate(
    "[program:a]\ncommand=a\n[program:b]\ncommand=b\nautostart=false",
  );
  assert.deepEqual(
    workers.map(({ name }) => name),
    ["a"],
  );
  assert.deepEqual(disabled, ["b"]);
  assert.match(yaml, /\n {4}# - name: b\n {4}# {3}exec: b # command\n/u);
  assert.match(reasons["program:b.autostart"] ?? "", /every pool starts with the controller/u);
  assert.throws(() => translate("[program:b]\ncommand=b\nautostart=false"), /starts no program by itself/u);
});

test("a FastCGI program finds its socket as stdin", () => {
  const { workers } = translate("[fcgi-program:r]\ncommand=r -x\nsocket=tcp://localhost:9002\nsocket_backlog=50");
  assert.deepEqual(workers[0]?.["sockets"], [{ name: "fcgi", listen: "localhost:9002", backlog: 50 }]);
  assert.deepEqual(workers[0]?.["args"], ["-c", 'exec "$0" "$@" <&{{.Fd}}', "r", "-x"]);
});

test("what cannot be translated is listed with its place and the reason", () => {
  const { ignored } = translate(
    "[supervisord]\nlogfile=/x\n[program:a]\ncommand=a\ndirectory=/srv/%(process_num)d\ncolour=blue\ncommand=b\n[eventlistener:e]\ncommand=x",
  );
  const places = Object.fromEntries(ignored.map(({ key, where }) => [key, where]));
  assert.deepEqual(places, {
    "supervisord.logfile": "shop.conf:2",
    "program:a.command": "shop.conf:4",
    "program:a.directory": "shop.conf:5",
    "program:a.colour": "shop.conf:6",
    "eventlistener:e.command": "shop.conf:9",
  });
});

test("a value that our file refuses is listed instead of printed", () => {
  const { workers, reasons } = translate(
    "[program:a]\ncommand=a\numask=999\nstopwaitsecs=soon\nstopsignal=NONSENSE\nnumprocs=0",
  );
  assert.deepEqual(Object.keys(workers[0] ?? {}), ["name", "exec", "restart", "stop_signal_target"]);
  assert.match(reasons["program:a.umask"] ?? "", /^umask: expected octal digits/u);
  assert.match(reasons["program:a.stopsignal"] ?? "", /^stop_signal: expected a signal/u);
  assert.match(reasons["program:a.stopwaitsecs"] ?? "", /^signal_timeout: expected a duration/u);
  assert.match(reasons["program:a.numprocs"] ?? "", /^replicas: expected a whole number/u);
});

test("a file without programs, or with one that has no command, is refused", () => {
  assert.throws(() => translate("[supervisord]\nnodaemon=true"), SourceError);
  assert.throws(() => translate("[program:a]\nuser=x"), /\[program:a\] at shop\.conf:1 has no command: expected one/u);
  assert.throws(() => translate("[program:a]\ncommand='x"), /has no command: a quote is not closed/u);
});

test("included files are found relative to the file", () => {
  const source = sourceOf("[include]\nfiles = conf.d/*.conf %(here)s/x.ini\n[program:a]\ncommand=a");
  assert.deepEqual(includedFiles(source), ["conf.d/*.conf", "./x.ini"]);
  assert.match(readImport(translateSupervisord([source])).notes[0] ?? "", /no file matches \[include\]/u);
});
