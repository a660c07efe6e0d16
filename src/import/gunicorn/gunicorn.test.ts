import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReadImport, readImport, sourceOf } from "../../../test/support/importing.ts";
import { type PythonValue, readAssignments } from "./literals.ts";
import { translateGunicorn } from "./translate.ts";

function translate(text: string, evaluated?: Record<string, PythonValue>): ReadImport {
  return readImport(translateGunicorn(sourceOf(text, "g.py"), { evaluated, app: "shop:app", path: "/srv/g.py" }));
}

const ARGS = ["--config", "/srv/g.py", "--workers", "1", "--no-control-socket"];
const STOP = { signal_timeout: "35s", stop_signal_target: "leader" };

test("literals of Python are read, and everything else is left out", () => {
  const text = `a = 1_000
b = 'x\\'y'  # comment
c = [
    "p",  # one
    ('q', -1.5, None, True),
]
d = a + 1
e: str = "typed"
f = ("one")
if x:
    g = 1
def hook(server):
    pass
h == 1
i = """text"""
`;
  assert.deepEqual(
    readAssignments(text).map(({ name, line, value }) => [name, line, value]),
    [
      ["a", 1, 1000],
      ["b", 2, "x'y"],
      ["c", 3, ["p", ["q", -1.5, null, true]]],
      ["d", 7, undefined],
      ["e", 8, "typed"],
      ["f", 9, "one"],
      ["hook", 12, undefined],
      ["i", 15, undefined],
    ],
  );
});

test("Envoy takes over the address, the keep-alive and the number of requests", () => {
  const { workers, ignored } = translate(`bind = "0.0.0.0:8000"
workers = 4
keepalive = 5
graceful_timeout = 60
max_requests = 1000
max_requests_jitter = 200
certfile = "/tls.crt"
keyfile = "/tls.key"
user = "shop"
worker_class = "gthread"
`);
  assert.deepEqual(ignored, []);
  assert.deepEqual(workers, [
    {
      name: "web",
      replicas: 4,
      exec: "gunicorn",
      args: [...ARGS, "--max-requests", "0", "--certfile", "", "--keyfile", "", "shop:app"],
      user: "shop",
      server: {
        listener_address: "0.0.0.0",
        listener_port: 8000,
        socket_arg: { name: "--bind", value_template: "unix:{{.Socket}}" },
        worker_keepalive: "4s",
        tls: { cert: "/tls.crt", key: "/tls.key" },
      },
      limits: { requests: 1100, jitter_ratio: 0.091 },
      signal_timeout: "1m5s",
      stop_signal_target: "leader",
    },
  ]);
});

test("Unix sockets and several addresses are shared sockets", () => {
  const { workers, reasons } = translate(
    'bind = ["unix:/run/a.sock", ":8000"]\nmax_requests = 9\npreload_app = True\n',
  );
  assert.deepEqual(workers, [
    {
      name: "web",
      exec: "gunicorn",
      args: [...ARGS, "shop:app"],
      sockets: [
        { name: "http", listen: "/run/a.sock" },
        { name: "http2", listen: ":8000" },
      ],
      ...STOP,
    },
  ]);
  assert.deepEqual(Object.keys(reasons), ["max_requests", "preload_app"]);
});

test("computed values need an evaluation", () => {
  const text = "import os\nworkers = os.cpu_count()\nbind = ':80'\nhelper = 1\n";
  assert.match(translate(text).reasons["workers"] ?? "", /its value is computed/u);
  const { workers, notes } = translate(text, { workers: 8, bind: ":80", helper: 1 });
  assert.equal(workers[0]?.["replicas"], 8);
  assert.match(notes.join("\n"), /the file computes workers; the values are those of this machine/u);
});

test("settings that a worker must not have are listed", () => {
  const { reasons, yaml } = translate("daemon = True\nreload = True\npidfile = '/run/g.pid'\nthreads = 2\n");
  assert.deepEqual(Object.keys(reasons), ["daemon", "reload"]);
  assert.match(yaml, /--pid, "\/run\/g\.pid\.\{\{\.Slot\}\}/u);
  assert.match(yaml, /# gunicorn still reads threads from the file/u);
  assert.deepEqual(translate("daemon = False\nworkers = 1\n").reasons, {});
});

test("a file without settings of gunicorn is refused", () => {
  assert.throws(() => translate("x = 1\n"), /sets none of gunicorn's settings/u);
});
