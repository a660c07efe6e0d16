import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Config } from "../../config/config.ts";
import { parseConfig } from "../../config/load.ts";
import { formatDocument } from "../../config/show.ts";
import { renderTemplate, templateText } from "../../config/template.ts";
import { programTraps } from "../../controller/programTraps.ts";
import { PROGRAMS } from "../../programs/catalog.ts";
import type { PoolOptions } from "./options.ts";
import { type LineEnvironment, type Plan, planLine } from "./plan.ts";
import { startPortOf } from "./pool.ts";

const NONE: PoolOptions = {
  replicas: undefined,
  port: undefined,
  mode: undefined,
  health: undefined,
  maxRequests: undefined,
  maxMemory: undefined,
  maxAge: undefined,
  env: [],
  name: undefined,
  adminPort: undefined,
};

const WITH_ENVOY: LineEnvironment = { port: undefined, hasEnvoy: true };
const WITHOUT: LineEnvironment = { port: undefined, hasEnvoy: false };

function plan(command: string, options: Partial<PoolOptions> = {}, environment = WITH_ENVOY): Plan {
  return planLine(command === "" ? [""] : command.split(" "), { ...NONE, ...options }, environment);
}

/** What runs: the printed configuration, read again. */
function load(planned: Plan): Config {
  assert.ok(planned.ok, planned.ok ? "" : planned.message);
  const text = formatDocument(planned.document, planned.explanation);
  const parsed = parseConfig(text, "command line", { HOME: "/wrong" });
  assert.ok(parsed.ok, `${text}\n${JSON.stringify(parsed)}`);
  return parsed.config;
}

function pool(command: string, options: Partial<PoolOptions> = {}, environment = WITH_ENVOY) {
  const [first] = load(plan(command, options, environment)).supervisor.pools;
  assert.ok(first !== undefined);
  return first;
}

function words(command: string, options: Partial<PoolOptions> = {}, environment = WITH_ENVOY): string {
  const { exec, args } = pool(command, options, environment);
  return [exec, ...args.map(templateText)].join(" ");
}

function refusal(command: string, options: Partial<PoolOptions> = {}, environment = WITH_ENVOY): string {
  const planned = plan(command, options, environment);
  assert.ok(!planned.ok, command);
  assert.equal(planned.code === "ENVOY_NOT_FOUND", planned.hint?.includes("pip install monoceros[proxy]") === true);
  return `${planned.code === "USAGE" ? "" : `${planned.code}: `}${planned.message}`;
}

test("a preset chooses proxy mode, the arguments and the keep-alive", () => {
  const uvicorn = pool("uvicorn app:app", { replicas: 4, health: "/healthz" });
  assert.deepEqual([uvicorn.name, uvicorn.replicas, uvicorn.exec], ["web", 4, "uvicorn"]);
  assert.deepEqual(uvicorn.args.map(templateText), [
    ..."app:app --host 127.0.0.1 --port {{.Port}} --workers 1".split(" "),
  ]);
  const { listenerPort, listenerAddress, startPort, algorithm, healthCheckPath, workerKeepaliveMs } =
    uvicorn.server ?? {};
  assert.deepEqual(
    [listenerPort, listenerAddress, startPort, algorithm, healthCheckPath, workerKeepaliveMs],
    [8000, "0.0.0.0", 29_000, "LEAST_REQUEST", "/healthz", 3000],
  );
});

const PRESETS: readonly (readonly [command: string, proxy: string, socket: string | undefined])[] = [
  ["uvicorn a:a", "uvicorn a:a --host 127.0.0.1 --port {{.Port}} --workers 1", "uvicorn a:a --fd {{.Fd}} --workers 1"],
  [
    "python3 -m hypercorn a:a",
    "python3 -m hypercorn a:a --bind 127.0.0.1:{{.Port}}",
    "python3 -m hypercorn a:a --bind fd://{{.Fd}}",
  ],
  ["gunicorn a:a", "gunicorn a:a --bind 127.0.0.1:{{.Port}} --workers 1", "gunicorn a:a --workers 1"],
  [
    "uv run gunicorn a:a",
    "uv run gunicorn a:a --bind 127.0.0.1:{{.Port}} --workers 1",
    "uv run gunicorn a:a --bind fd://{{.Fd}} --workers 1",
  ],
  ["granian a:a", "granian a:a --host 127.0.0.1 --port {{.Port}} --workers 1", undefined],
  ["uwsgi --wsgi a", "uwsgi --wsgi a --http-socket 127.0.0.1:{{.Port}} --die-on-term", undefined],
  ["uwsgi --die-on-term", "uwsgi --die-on-term --http-socket 127.0.0.1:{{.Port}}", undefined],
  [
    "bundle exec puma",
    "bundle exec puma --bind tcp://127.0.0.1:{{.Port}} --workers 0",
    "bundle exec puma --bind-to-activated-sockets only --workers 0",
  ],
  ["unicorn", "unicorn --listen 127.0.0.1:{{.Port}}", undefined],
  ["php -S localhost:80 -t public", "php -S 127.0.0.1:{{.Port}} -t public", undefined],
  ["npx next start", "npx next start --hostname 127.0.0.1 --port {{.Port}}", undefined],
  ["node server.js", "node server.js", undefined],
  ["npm start", "npm start", undefined],
];

test("each preset has its arguments in proxy mode, and in shared-socket mode if it takes a socket", () => {
  for (const [command, proxy, socket] of PRESETS) {
    assert.equal(words(command), proxy);
    assert.ok(pool(command).server?.startPort !== undefined, command);
    if (socket === undefined) {
      assert.match(
        refusal(command, {}, WITHOUT),
        /^ENVOY_NOT_FOUND: .* there is no Envoy, and it takes no shared socket$/u,
      );
      assert.match(refusal(command, { mode: "socket" }), /takes no shared socket|needs \{fd\}|passes no sockets on/u);
    } else {
      for (const found of [pool(command, {}, WITHOUT), pool(command, { mode: "socket" })]) {
        assert.equal(found.server, undefined);
        assert.deepEqual(found.sockets, [{ name: "http", listen: "0.0.0.0:8000", backlog: 1024 }]);
      }
      assert.equal(words(command, {}, WITHOUT), socket);
    }
  }
});

test("the explanation says the mode, the reason and what was changed, in one line", () => {
  const explain = (command: string, options: Partial<PoolOptions> = {}, environment = WITH_ENVOY) => {
    const planned = plan(command, options, environment);
    return planned.ok ? planned.explanation : planned.message;
  };
  assert.equal(
    explain("gunicorn -w 4 --bind :80 a:a"),
    "gunicorn: 4 workers in proxy mode, because Envoy drains each worker before it stops; clients connect to port 80; replaced -w 4 --bind :80; added --bind 127.0.0.1:{port} --workers 1",
  );
  assert.match(
    explain("uvicorn a:a", {}, WITHOUT),
    /^uvicorn: one worker per CPU in shared-socket mode, because there is no Envoy \(for proxy mode: pip install monoceros\[proxy\], or an envoy on PATH\); .*; added --fd \{fd\}/u,
  );
  assert.match(
    explain("./server"),
    /^"\.\/server", which is not a known program: .* each worker must listen on its own \$PORT$/u,
  );
  assert.match(explain("./server {port}"), /because the command contains \{port\}; clients connect to port 8000$/u);
  assert.match(explain("node a.js", { mode: "reuseport", port: 5 }), /must listen on port 5 with SO_REUSEPORT$/u);
  assert.equal(explain("celery -A t worker"), "celery: 1 worker without a port, because celery serves no clients");
  assert.doesNotMatch(explain("uvicorn a\nb --host \u001b[1m"), /[\n\u001b]/u);
});

test("the port is that of --port, then of the command, then $PORT, then 8000", () => {
  const environment = { port: "5000", hasEnvoy: true };
  assert.equal(pool("uvicorn a:a --port 7000", { port: 9 }, environment).server?.listenerPort, 9);
  assert.equal(pool("uvicorn a:a --port 7000", {}, environment).server?.listenerPort, 7000);
  assert.equal(pool("uvicorn a:a", {}, environment).server?.listenerPort, 5000);
  assert.equal(pool("uvicorn a:a", {}, { ...environment, port: "" }).server?.listenerPort, 8000);
  assert.equal(
    refusal("uvicorn a:a", {}, { ...environment, port: "http" }),
    '$PORT: expected a port from 1 to 65535, got "http"; or use --port',
  );
  assert.equal(pool("celery worker", {}, { ...environment, port: "http" }).name, "worker");
});

test("a program's own address becomes the address of the clients", () => {
  const served = (command: string) => {
    const { server } = pool(command);
    return `${server?.listenerAddress} ${server?.listenerPort}`;
  };
  assert.equal(served("uvicorn a:a --host 127.0.0.1 --port 80"), "127.0.0.1 80");
  assert.equal(served("uvicorn a:a --host=localhost"), "127.0.0.1 8000");
  assert.equal(served("gunicorn -b 10.0.0.1:80 a:a"), "10.0.0.1 80");
  assert.equal(served("gunicorn -b :80 a:a"), "0.0.0.0 80");
  assert.equal(served("gunicorn -b 10.0.0.1 a:a"), "10.0.0.1 8000");
  assert.equal(served("gunicorn -b [::1]:80 a:a"), "::1 80");
  assert.equal(served("puma -p80"), "0.0.0.0 80");
  assert.equal(served("puma -b tcp://10.0.0.1:80"), "10.0.0.1 80");
  assert.equal(pool("hypercorn -b [::1]:80 a:a", { mode: "socket" }).sockets[0]?.listen, "[::1]:80");
});

test("an address that several workers cannot share is refused", () => {
  assert.match(refusal("uvicorn a:a --uds /run/x"), /^--uds \/run\/x is one socket for all workers; .*\{socket\}/u);
  assert.match(refusal("gunicorn -b unix:/run/x a:a"), /^-b unix:\/run\/x is one socket/u);
  assert.match(refusal("uvicorn --fd 3 a:a"), /^--fd 3 is a descriptor .*\{fd\}/u);
  assert.match(refusal("gunicorn --bind fd://3 a:a"), /is a descriptor/u);
  assert.match(refusal("puma -b ssl://0.0.0.0:80?key=x"), /^-b ssl:\S* is no address that can be replaced/u);
  assert.equal(refusal("gunicorn -b :80 -b :81 a:a"), "gunicorn has several ports, 80 and 81");
});

test("placeholders decide the mode, and a known program then gets no address", () => {
  assert.equal(words("uvicorn a:a --port {port}"), "uvicorn a:a --port {{.Port}}");
  assert.equal(words("uvicorn a:a --fd {fd}"), "uvicorn a:a --fd {{.Fd}}");
  const socket = pool("python -m uvicorn --uds {socket} --name w{slot}");
  assert.equal(
    [socket.exec, ...socket.args.map(templateText)].join(" "),
    "python -m uvicorn --uds {{.Socket}} --name w{{.Slot}}",
  );
  assert.equal(socket.server?.socketEnv, "SOCKET");
  assert.equal(words("./x {port}", { mode: "reuseport", port: 80 }), "./x 80");
  assert.equal(words("uvicorn a:a --name {slot}").includes("--port {{.Port}}"), true);
});

test("placeholders without a value are refused", () => {
  assert.equal(refusal("x {port} {fd}"), "the command contains {port} and {fd}; a worker has only one address");
  assert.equal(refusal("x {port} {socket}"), "the command contains {port} and {socket}; a worker has only one address");
  assert.equal(refusal("x {port}", { mode: "socket" }), "{port} has no value with --mode socket");
  assert.equal(refusal("x {fd}", { mode: "proxy" }), "{fd} has no value with --mode proxy");
  assert.equal(refusal("x {socket}", { mode: "reuseport" }), "{socket} has no value with --mode reuseport");
  assert.equal(refusal("./x{port} a"), 'the program itself, "./x{port}", contains a placeholder');
  assert.match(refusal("x {port}", {}, WITHOUT), /^ENVOY_NOT_FOUND: \{port\} gives each worker an address of its own/u);
});

test("a mode needs what it needs", () => {
  assert.equal(refusal("uvicorn a:a", { mode: "proxy" }, WITHOUT), "ENVOY_NOT_FOUND: --mode proxy needs Envoy");
  assert.match(refusal("./x", { mode: "socket" }), /^--mode socket needs \{fd\} in the command/u);
  assert.match(refusal("node a.js", { mode: "socket" }), /^--mode socket needs \{fd\} in the command/u);
  assert.match(refusal("npx hypercorn", { mode: "socket" }), /^npx passes no sockets on/u);
  assert.match(refusal("uvicorn a:a", { mode: "reuseport" }), /^uvicorn does not use SO_REUSEPORT/u);
  assert.match(refusal("celery worker", { mode: "proxy" }), /^celery serves no HTTP/u);
  assert.match(
    refusal("./x", {}, WITHOUT),
    /^ENVOY_NOT_FOUND: .*"\.\/x": there is no Envoy, and a shared socket needs \{fd\}/u,
  );
  assert.equal(pool("./x {fd}", {}, WITHOUT).sockets.length, 1);
});

test("an option that the mode does not have is refused, never dropped", () => {
  for (const [name, given] of [
    ["--health", { health: "/h" }],
    ["--max-requests", { maxRequests: 5 }],
  ] as const) {
    assert.match(refusal("uvicorn a:a", { ...given, mode: "socket" }), new RegExp(`^${name} needs proxy mode`, "u"));
    assert.equal(refusal("uvicorn a:a", given, WITHOUT), `ENVOY_NOT_FOUND: ${name} needs Envoy, and there is none`);
  }
  assert.match(refusal("celery worker", { port: 80 }), /^--port has no meaning: celery/u);
  assert.match(refusal("node a.js", { env: [["PORT", "1"]] }), /^-e PORT: /u);
});

test("limits, variables, name and admin port reach the configuration", () => {
  const config = load(
    plan("unicorn", {
      maxRequests: 1000,
      maxMemory: "512MiB",
      maxAge: "4h",
      name: "api",
      adminPort: 0,
      env: [
        ["A", "$HOME {port} {{.Port}} 'x'"],
        ["B", ""],
      ],
    }),
  );
  const [found] = config.supervisor.pools;
  assert.equal(config.admin.port, 0);
  assert.deepEqual([found?.name, found?.stopSignal, found?.replicas], ["api", "SIGQUIT", "auto"]);
  const { requests, memoryBytes, lifespanMs, jitterRatio } = found?.limits ?? {};
  assert.deepEqual([requests, memoryBytes, lifespanMs, jitterRatio], [1000, 2 ** 29, 14_400_000, 0.1]);
  const values = Object.entries(found?.env ?? {}).map(([name, value]) => [name, renderTemplate(value, { Port: 1 })]);
  assert.deepEqual(values, [
    ["A", "$HOME {port} {{.Port}} 'x'"],
    ["B", ""],
  ]);
});

test("a program's own keep-alive and number of processes are taken over", () => {
  assert.equal(pool("uvicorn a:a --timeout-keep-alive 30").server?.workerKeepaliveMs, 15_000);
  assert.equal(pool("granian --http1-keep-alive-timeout 1000 a:a").server?.workerKeepaliveMs, 500);
  assert.equal(pool("gunicorn --keep-alive 0 a:a").server?.workerKeepaliveMs, 1000);
  assert.equal(pool("gunicorn -w3 a:a").replicas, 3);
  assert.equal(pool("gunicorn -w 3 a:a", { replicas: 2 }).replicas, 2);
  assert.equal(words("gunicorn -w 3 a:a", { replicas: 2 }).includes("-w 3"), false);
  assert.equal(pool("celery worker").stopSignalTarget, "leader");
});

test("a command that cannot be run is refused", () => {
  assert.equal(refusal(""), "the command after -- is empty");
  const quoted = planLine(["uvicorn app:app"], NONE, WITH_ENVOY);
  assert.match(
    quoted.ok ? "" : quoted.message,
    /is one word with spaces, "uvicorn app:app"; write it without quotes$/u,
  );
  assert.equal(planLine(["/opt/my app/server"], NONE, WITH_ENVOY).ok, true);
});

test("ports of workers are below those of outgoing connections, and differ for common client ports", () => {
  const starts = [80, 3000, 4000, 5000, 8000, 8001, 8080, 9292].map(
    (port) => pool("node a.js", { port }).server?.startPort,
  );
  assert.equal(new Set(starts).size, starts.length);
  for (let port = 1; port <= 65_535; port += 1) {
    const start = startPortOf(port);
    assert.ok(start >= 20_000 && start + 100 < 32_768 && (port < start || port >= start + 100), String(port));
  }
});

test("a preset avoids the traps of its program", () => {
  const env = { WEB_CONCURRENCY: "4", HOSTNAME: "web-7f9" };
  const commands = [...PRESETS.map(([command]) => command), "node .next/standalone/server.js", "gunicorn -w 4 a:a"];
  for (const command of commands)
    for (const environment of [WITH_ENVOY, WITHOUT]) {
      const planned = plan(command, {}, environment);
      if (!planned.ok) continue;
      const [found] = load(planned).supervisor.pools;
      assert.ok(found !== undefined);
      assert.deepEqual(programTraps(found, { env, configured: new Set(Object.keys(found.env)) }), [], command);
    }
});

test("what is printed is what runs, for every program and any words", () => {
  for (const { name, executables } of PROGRAMS) {
    const [executable = name] = executables;
    for (const environment of [WITH_ENVOY, WITHOUT]) {
      const planned = plan(`${executable} start`, {}, environment);
      if (planned.ok) load(planned);
    }
  }
  const word = fc.oneof(
    fc.string({ unit: "binary" }).filter((text) => !text.includes("\0") && text.isWellFormed()),
    fc.constantFrom(
      "$X",
      "$".concat("{HOME}"),
      "$$",
      "{{.Port}}",
      '{{"{{"}}',
      "{{",
      "- a",
      "a: b",
      "#",
      "",
      " ",
      "\t\n",
      "0x10",
      "true",
    ),
  );
  const variable = fc.tuple(
    fc.stringMatching(/^[A-Za-z_]\w*$/u).filter((name) => name !== "PORT"),
    word,
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 6 }), fc.array(variable, { maxLength: 3 }), (args, env) => {
      fc.pre(!args.some((arg) => /\{(?:port|socket|fd|slot)\}/u.test(arg)));
      const [found] = load(planLine(["./server", ...args], { ...NONE, env }, WITH_ENVOY)).supervisor.pools;
      const values = { Port: 9, Socket: "s", WorkerID: "w", Pool: "p", Slot: 1, Fd: 3 };
      assert.deepEqual(
        found?.args.map((arg) => renderTemplate(arg, values)),
        args,
      );
      const read = Object.entries(found.env).map(([name, value]) => [name, renderTemplate(value, values)]);
      assert.deepEqual(Object.fromEntries(read), Object.fromEntries(env));
    }),
    { numRuns: 100 },
  );
});
