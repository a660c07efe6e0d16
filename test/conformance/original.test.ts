/**
 * Checks our executables against the tests, examples and command line of the original Go Monoceros. Expectations that other
 * tests cover are not repeated here:
 *
 * | expectation | test |
 * |---|---|
 * | reaching the restart limit stops the controller | integration/restarts |
 * | workers that ignore the stop signal are killed | integration/stop |
 * | workers start `startup_wait_time` apart; health follows `desired_healthy_percentage` | integration/lifecycle |
 * | a start fails if the admin port is in use | fault/takenPlaces |
 * | jitter spreads lifespans | integration/recycling |
 * | each worker behind a proxy has a port of its own | e2e/proxyReplacement |
 * | processbin exits, ignores signals and delays its exit according to its flags | cmd/processbin |
 *
 * docs/differences.md lists intentional differences.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, get, type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ControllerUnderTest, eventually, MONOCEROS, PROCESSBIN, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import { runToEnd } from "../support/traffic.ts";
import { adminPort, eventsOf, happened, type LogRecord, recordsOf, said, shellPool } from "../support/watch.ts";

interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** Sends one GET on loopback; undefined if the request fails. */
function ask(port: number, path: string, agent?: Agent): Promise<Answer | undefined> {
  return new Promise((done) => {
    get({ host: "127.0.0.1", port, path, agent: agent ?? false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => done({ status: response.statusCode ?? 0, headers: response.headers, body }));
      response.on("error", () => done(undefined));
    }).on("error", () => done(undefined));
  });
}

/** The log records of a worker among these lines. */
function recordsBy(worker: string, lines: readonly string[]): LogRecord[] {
  return recordsOf(lines).filter((record) => record["worker_id"] === worker);
}

describe("command line and configuration", () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "monoceros-original-"));
  });
  after(() => rmSync(directory, { recursive: true }));

  function file(text: string): string {
    const path = join(directory, "config.yaml");
    writeFileSync(path, text);
    return path;
  }

  /** The result of `-k` for a configuration. */
  const check = (yaml: string) => runToEnd(MONOCEROS, ["-c", file(yaml), "-k"]);

  /** A configuration with one pool with changed keys; undefined removes a key. */
  function withPool(changes: Readonly<Record<string, unknown>>): string {
    const pool = { name: "web", replicas: 1, exec: "sleep", args: ["1000"], ...changes };
    return JSON.stringify({ admin: { port: 0 }, supervisor: { workers: [pool] } });
  }

  const SERVER = {
    port_arg: { name: "--port", start_port: 9000, value_template: "{{.Port}}" },
    health_check_path: "/foo",
  };
  const withServer = (changes: Readonly<Record<string, unknown>>) => withPool({ server: { ...SERVER, ...changes } });
  const withPortArg = (changes: Readonly<Record<string, unknown>>) =>
    withServer({ port_arg: { ...SERVER.port_arg, ...changes } });

  test("all spellings of the original's flags are accepted", async () => {
    const config = file(withPool({}));
    for (const args of [
      ["-c", config, "-k"],
      ["--config", config, "--validate"],
      ["-config", config, "-validate"],
      [`-c=${config}`, "-k", "-d"],
      [`--config=${config}`, "--k", "--debug"],
    ]) {
      const { code, stdout, stderr } = await runToEnd(MONOCEROS, args);
      assert.deepEqual([code, stdout, stderr], [0, `${config} is valid: 1 pool, 1 worker\n`, ""], args.join(" "));
    }
    for (const flag of ["-v", "--version", "-version"])
      assert.match((await runToEnd(MONOCEROS, [flag])).stdout, /^monoceros \d/u, flag);
    for (const flag of ["-h", "--help", "-help"]) assert.equal((await runToEnd(MONOCEROS, [flag])).code, 0, flag);
  });

  test("configurations with the keys of the original's examples are valid without changes", async () => {
    const supervised = `admin:
  port: 9000
supervisor:
  workers:
    - name: ping
      replicas: 3
      exec: sleep
      args:
        - 5
      signal_timeout: 15s
      max_restarts: 3
      limits:
        lifespan: 4h
      startup_wait_time: 500ms
      desired_healthy_percentage: 75
`;
    const many = `admin:
  port: 9000
supervisor:
  workers:
    - name: processbin
      replicas: 30
      exec: ./dist/processbin
      args:
        - --exit-after
        - 5
        - --log-structured
      signal_timeout: 15s
      max_restarts: 3
      startup_wait_time: 500ms
      desired_healthy_percentage: 75
      limits:
        lifespan: 4h
`;
    const proxied = `admin:
  port: 9000
supervisor:
  workers:
    - name: httpbin
      replicas: 3
      exec: ./dist/processbin
      signal_timeout: 15s
      max_restarts: 3
      server:
        port_arg:
          name: -port
          value_template: '{{.Port}}'
          start_port: 9090
        signal_timeout: 20s
        health_check_path: '/health'
        load_balancer_algorithm: LEAST_REQUEST
        admin_port: 8080
        listener_port: 8081
      limits:
        lifespan: 4h
`;
    for (const yaml of [supervised, many, proxied]) {
      const { code, stderr } = await check(yaml);
      assert.deepEqual([code, stderr], [0, ""]);
    }
  });

  test("configurations that the original's tests accept are valid", async () => {
    for (const yaml of [
      withPool({ replicas: 5, max_restarts: 5 }),
      withPool({ max_restarts: 0, limits: { lifespan: "2s" }, signal_timeout: "15s" }),
      withPool({ max_restarts: -1 }),
      withPool({ signal_timeout: "0s", limits: { lifespan: "0s", memory: 512, jitter_ratio: 0 } }),
      withPool({ desired_healthy_percentage: 0, startup_wait_time: "1m30s" }),
      withServer({}),
      withServer({ load_balancer_algorithm: "ROUND_ROBIN", admin_port: 0, listener_port: 0 }),
      withServer({ load_balancer_algorithm: "random", signal_timeout: "0s" }),
      withPortArg({ name: "--bind", value_template: "127.0.0.1:{{ .Port }}" }),
    ]) {
      const { code, stderr } = await check(yaml);
      assert.equal(code, 0, `${yaml}\n${stderr}`);
    }
  });

  test("configurations that the original's tests reject are rejected with the position and exit code 78", async () => {
    for (const [yaml, problem] of [
      [withPool({ name: undefined }), /name: required/u],
      [withPool({ name: "" }), /name: /u],
      [withPool({ exec: undefined }), /exec: required/u],
      [withPool({ exec: "this is not a valid path to a process" }), /exec: .*not on PATH/u],
      [withPool({ replicas: 0 }), /replicas: .*got 0/u],
      [withPool({ replicas: -1 }), /replicas: .*got -1/u],
      [withPool({ signal_timeout: 15 }), /signal_timeout: .*duration/u],
      [withPortArg({ start_port: 0 }), /start_port: /u],
      [withServer({ load_balancer_algorithm: "foo" }), /load_balancer_algorithm: .*"foo"/u],
      [withServer({ admin_port: -1 }), /admin_port: .*got -1/u],
      [JSON.stringify({ admin: { port: -42 }, supervisor: { workers: [] } }), /admin\.port: .*got -42/u],
      [
        withPool({}).replace(/(\{"name":.*\})\]/u, "$1,$1]"),
        /name: duplicate name "web", workers\[0\] already has it/u,
      ],
    ] as const) {
      const { code, stderr } = await check(yaml);
      assert.equal(code, 78, yaml);
      assert.match(stderr, problem);
      assert.match(stderr, /config\.yaml:\d+:\d+: /u);
    }
  });

  test("unknown keys, numbers out of range and an empty file, which the original accepted, are rejected", async () => {
    for (const [yaml, problem] of [
      [JSON.stringify({ admin: { placeholder: "bar" }, supervisor: { workers: [] } }), /unknown key "placeholder"/u],
      [withPool({ desired_healthy_percentage: 101 }), /desired_healthy_percentage: .*got 101/u],
      [withPool({ signal_timeout: "-1s" }), /signal_timeout: .*got "-1s"/u],
      [withPool({ limits: { jitter_ratio: 1.5 } }), /jitter_ratio: .*got 1.5/u],
      [withServer({ listener_port: -1 }), /listener_port: .*got -1/u],
      ["", /the file is empty/u],
    ] as const) {
      const { code, stderr } = await check(yaml);
      assert.equal(code, 78, yaml);
      assert.match(stderr, problem);
    }
  });

  test("keys that the original required have defaults", async () => {
    for (const yaml of [
      withServer({ health_check_path: undefined }),
      withPortArg({ value_template: undefined }),
      withPool({ replicas: undefined }),
    ])
      assert.equal((await check(yaml)).code, 0, yaml);
  });

  test("a missing configuration file gives exit code 78, and an invalid command line gives 2", async () => {
    assert.equal((await runToEnd(MONOCEROS, ["-c", join(directory, "none.yaml")])).code, 78);
    assert.equal((await runToEnd(MONOCEROS, ["--bogus"])).code, 2);
    assert.equal((await runToEnd(MONOCEROS, [])).code, 2);
  });
});

describe("workers", () => {
  test("each worker inherits the controller's environment and has a unique MULTIPROCESS_WORKER_ID that contains its name", async () => {
    const script = 'echo "id=$MULTIPROCESS_WORKER_ID flag=$TEST_FLAG"; exec sleep 100000';
    await using controller = await ControllerUnderTest.start({
      env: { TEST_FLAG: "1" },
      workers: [shellPool("web", script, { replicas: 2 }), shellPool("job", script)].join("\n"),
    });
    const ids = new Set<string>();
    for (const worker of ["web-0", "web-1", "job-0"]) {
      const line = () => recordsBy(worker, controller.stdout).map((record) => String(record["worker_info_msg"]))[0];
      const [, id = "", flag] = /^id=(.*) flag=(.*)$/u.exec(await eventually(line, `${worker} prints its id`)) ?? [];
      assert.ok(id.includes(worker), id);
      assert.equal(flag, "1");
      ids.add(id);
    }
    assert.equal(ids.size, 3);
  });

  test("at SIGTERM processbin exits with 143 and the controller with 0", async () => {
    const port = await freePorts(1);
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({ name: "web", exec: PROCESSBIN, args: ["--exit-after", 300, "--port", port] }),
    });
    await eventually(() => ask(port, "/"), "the worker serves");
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    assert.deepEqual((await happened(controller, "exited")).status, { kind: "code", code: 143 });
  });

  test("a worker is restarted max_restarts times and gives up at the next unplanned exit", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: [
        shellPool("short", "exit 0", {
          max_restarts: 2,
          restart: { backoff: { initial: "10ms" }, on_exhausted: "give-up-worker" },
        }),
        shellPool("long", "exec sleep 100000", { max_restarts: 0 }),
      ].join("\n"),
    });
    await happened(controller, "gave_up");
    assert.equal(eventsOf(controller, "spawned").filter(({ pool }) => pool === "short").length, 3);
    assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="short",worker_type="worker"}'), 2);
    assert.equal(await controller.metric('monoceros_workerpool_worker_state{pool="short",state="terminated"}'), 1);
    assert.equal(await controller.metric('monoceros_workerpool_worker_state{pool="short",state="running"}'), 0);
  });

  test("a replacement at the end of the lifespan is counted as a limit event and not as a restart", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shellPool("web", "exec sleep 100000", {
        replicas: 3,
        max_restarts: 0,
        limits: { lifespan: "300ms" },
        rolling: { min_ready: "0s" },
      }),
    });
    await happened(controller, "rollout_finished", undefined, 4);
    assert.ok(
      (await controller.metric('monoceros_workerpool_limits_events_total{pool="web",limit_event="time"}')) >= 4,
    );
    assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="web",worker_type="worker"}'), 0);
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  });

  test("15 replicas start startup_wait_time apart, and the worker_state metric counts them", async () => {
    await using controller = await ControllerUnderTest.start({
      workers: shellPool("web", "exec sleep 100000", { replicas: 15, startup_wait_time: "10ms" }),
    });
    await happened(controller, "spawned", undefined, 15);
    const running = 'monoceros_workerpool_worker_state{pool="web",state="running"}';
    await eventually(async () => (await controller.metric(running)) === 15 || undefined, "all 15 workers are running");
    assert.equal(await controller.metric("monoceros_supervisor_sigterm_received"), 0);
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
    assert.equal(eventsOf(controller, "exited").length, 15);
  });
});

describe("logs", () => {
  test("text lines become records with worker_info_msg or worker_error_msg, and JSON lines only get a worker_id", async () => {
    const long = "x".repeat(20_000);
    const script = `
      echo 'a log'; echo '{"a" : 1}'; echo '{"n":12345678901234567890}'; echo '{"worker_id":"mine","b":2}'; echo '[1]'
      echo ${long}; echo 'an error' >&2; echo '{"e" : 1}' >&2; echo end; exec sleep 100000`;
    await using controller = await ControllerUnderTest.start({ workers: shellPool("pool", script) });
    await said(controller, "pool-0", "end");
    await controller.until(() => controller.stderr.some((line) => line.includes('"e"')), "stderr of the worker");
    const out = recordsBy("pool-0", controller.stdout);
    const texts = out.flatMap((record) => record["worker_info_msg"] ?? []);
    // One line is longer than 16,384 bytes, which the original loses.
    assert.deepEqual(texts, ["a log", "[1]", long, "end"]);
    for (const record of out.filter((each) => "worker_info_msg" in each)) {
      assert.equal(record["level"], "info");
      assert.ok(typeof record["ts"] === "number" && record["ts"] > 1e9, "seconds since 1970");
    }
    const json = controller.stdout.filter((line) => !line.includes("worker_info_msg"));
    assert.match(json[0] ?? "", /"worker_id":"pool-0".*"a" : 1/u);
    assert.match(json[1] ?? "", /12345678901234567890/u, "every digit is kept");
    assert.deepEqual(JSON.parse(json[2] ?? ""), { worker_id: "pool-0", app_worker_id: "mine", b: 2 });
    const errors = recordsBy("pool-0", controller.stderr);
    assert.deepEqual(
      errors.flatMap((record) => record["worker_error_msg"] ?? []),
      ["an error"],
    );
    assert.ok(errors.some((record) => record["e"] === 1));
  });

  test("the controller's own records on stderr are JSON with level, ts and msg, and name the worker and the pool", async () => {
    const { ending, stderr } = await ControllerUnderTest.run({
      workers: shellPool("web", "exit 3", { max_restarts: 1 }),
    });
    assert.equal(ending.code, 1);
    const records = recordsOf(stderr);
    assert.equal(records.length, stderr.length, "every line is a record");
    for (const { level, ts, msg } of records) {
      assert.match(String(level), /^(?:debug|info|warn|error)$/u);
      assert.ok(typeof ts === "number" && typeof msg === "string" && msg !== "");
    }
    const exited = records.filter((record) => record["event"] === "exited");
    assert.equal(exited.length, 2);
    for (const record of exited) assert.deepEqual([record["pool"], record["worker_id"]], ["web", "web-0"]);
  });
});

describe("metrics and health", () => {
  test("/metrics has every series of the original, and /health answers 200, both without authorization", async () => {
    await using controller = await ControllerUnderTest.start({
      args: ["-d"],
      workers: poolOf({
        name: "processbin",
        exec: PROCESSBIN,
        args: ["--exit-after", 300],
        limits: { lifespan: "4h" },
      }),
    });
    const port = await adminPort(controller);
    await eventually(
      async () => ((await ask(port, "/health"))?.status === 200 ? true : undefined),
      "the controller is healthy",
    );
    const { status, body } = (await ask(port, "/metrics")) ?? { status: 0, body: "" };
    assert.equal(status, 200);
    const series = new Set(
      body.split("\n").flatMap((line) => (line.startsWith("#") ? [] : [line.replace(/ \S+$/u, "")])),
    );
    const worker = '{pool="processbin",worker="processbin-0"}';
    const ofProcess = ["cpu_seconds_total", "open_fds", "max_fds", "start_time_seconds"].concat(
      ["resident", "virtual"].map((kind) => `${kind}_memory_bytes`),
      "virtual_memory_max_bytes",
    );
    for (const expected of [
      'monoceros_workerpool_restarts_total{pool="processbin",worker_type="worker"}',
      'monoceros_workerpool_sigkill_total{pool="processbin"}',
      'monoceros_workerpool_limits_events_total{pool="processbin",limit_event="time"}',
      'monoceros_workerpool_worker_state{pool="processbin",state="running"}',
      "monoceros_workerpool_failed_to_parse_log_json_total",
      "monoceros_supervisor_sigterm_received",
      "monoceros_supervisor_proxy_mode",
      ...ofProcess.map((metric) => `monoceros_workerpool_process_${metric}${worker}`),
      ...ofProcess.map((metric) => `process_${metric}`),
    ])
      assert.ok(series.has(expected), `${expected}\n${body}`);
    assert.match(body, /^monoceros_build_info\{.*version="/mu);
  });
});

describe("proxy", () => {
  test("workers answer on their own ports and through Envoy, which closes client connections at shutdown", async () => {
    const listener = await freePorts(6);
    const directory = mkdtempSync(join(tmpdir(), "monoceros-original-envoy-"));
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      await using controller = await ControllerUnderTest.start({
        workers: poolOf({
          name: "foo",
          exec: PROCESSBIN,
          args: ["--signal-timeout", 1],
          max_restarts: 100,
          replicas: 3,
          server: {
            port_arg: { name: "--port", start_port: listener + 2, value_template: "{{.Port}}" },
            health_check_path: "/",
            proxy_config_path: directory,
            admin_port: listener + 1,
            listener_port: listener,
          },
        }),
      });
      const hello = (port: number, through?: Agent) => async () => {
        const answer = await ask(port, "/", through);
        return answer?.status === 200 ? answer : undefined;
      };
      for (const slot of [0, 1, 2]) {
        const { body } = await eventually(hello(listener + 2 + slot), `worker ${slot} answers`);
        assert.equal(body, "hello from processbin\n");
      }
      const first = await eventually(hello(listener, agent), "Envoy answers");
      assert.equal(first.body, "hello from processbin\n");
      assert.notEqual(first.headers.connection, "close");
      assert.equal((await ask(listener + 1, "/ready"))?.body, "LIVE\n", "Envoy's admin interface");
      assert.ok(existsSync(directory));
      assert.equal(await controller.metric("monoceros_supervisor_proxy_mode"), 1);
      assert.equal(await controller.metric('monoceros_workerpool_restarts_total{pool="foo",worker_type="proxy"}'), 0);

      // This request is in flight when Envoy begins to drain.
      const upload = request({ host: "127.0.0.1", port: listener, path: "/upload", method: "POST", agent });
      const answered = once(upload, "response") as Promise<[IncomingMessage]>;
      upload.write("begin");
      const inFlight = 'monoceros_proxy_requests_in_flight{pool="foo"}';
      await eventually(async () => (await controller.metric(inFlight)) === 1 || undefined, "the request is in flight");
      controller.child.kill("SIGTERM");
      await eventually(async () => {
        // At first Envoy accepts connections and answers with Connection: close, later it refuses them.
        const other = new Agent({ keepAlive: true });
        const answer = await ask(listener, "/", other);
        other.destroy();
        return answer === undefined || answer.headers.connection === "close" || undefined;
      }, "Envoy drains");
      upload.end("end");
      const [response] = await answered;
      response.resume();
      assert.deepEqual([response.statusCode, response.headers.connection], [200, "close"]);
      assert.deepEqual(await controller.ended, { code: 0, signal: null });
      const exits = eventsOf(controller, "exited").map(({ pool }) => pool);
      assert.deepEqual(exits, ["foo", "foo", "foo", "foo-proxy"], "the proxy exits last");
    } finally {
      agent.destroy();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});

describe("processbin", () => {
  test("processbin accepts the original's long and short flags", async () => {
    const long = ["--exit-after", "--signal-timeout", "--log-size", "--log-interval", "--port"];
    const short = ["-t", "-o", "-l", "-k", "-p"];
    for (const [names, switches] of [
      [long, ["--ignore-signals", "--log-error", "--log-structured"]],
      [short, ["-i", "-e", "-j"]],
    ] as const) {
      const values = ["1", "2", "20", "1", "0"];
      const args = names.flatMap((name, index) => [name, values[index] ?? ""]);
      const { code, stderr } = await runToEnd(PROCESSBIN, [...args, ...switches]);
      assert.equal(code, 0, stderr);
    }
  });
});
