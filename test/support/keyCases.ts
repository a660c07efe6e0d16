/**
 * One case for each configuration key: two valid values, the classes of a change from one to the other, and what else the
 * file needs. Keys of a pool are relative to it. A key without a case fails src/controller/pools/reloadKeys.test.ts.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ChangeClass } from "../../src/config/field.ts";

export type Block = Readonly<Record<string, unknown>>;

/** A change of a key; undefined omits the key. */
export interface ChangeCase {
  readonly classes: readonly ChangeClass[];
  readonly before: unknown;
  readonly after: unknown;
  /** More keys of the pool. */
  readonly pool: Block;
  /** The change has an effect only for root. */
  readonly needsRoot?: true;
}

/** A key with only one valid value. The checks reject `other`. */
export interface FixedCase {
  readonly other: unknown;
  readonly pool: Block;
}

export type KeyCase = ChangeCase | FixedCase;

const change =
  (...classes: readonly ChangeClass[]) =>
  (before: unknown, after: unknown, pool: Block = {}): ChangeCase => ({ classes, before, after, pool });

const policy = change("policy");
const launch = change("launch");
const proxy = change("proxy");
const refused = change("refused");

/** The cases by key. Files that they name are created in `directory`. `ports` is the first of CASE_PORTS free ports. */
export function keyCases(directory: string, ports: number): Readonly<Record<string, KeyCase>> {
  const file = (name: string, text = "") => {
    const path = join(directory, name);
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  const subdirectory = (name: string) => {
    const path = join(directory, name);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const server = serverBlock(ports);
  const proxied = { server };
  const hashed = { server: { ...server, load_balancer_algorithm: "MAGLEV", hash_on: "source_ip" } };
  const onPort = { server: { ...server, socket_arg: undefined, port_arg: { name: "--port", start_port: ports + 10 } } };
  const tls = { server: { ...server, tls: { cert: file("cert-1.pem"), key: file("key-1.pem") } } };
  const scaled = { autoscale: { min: 1, max: 4, cpu: 0.5 } };
  const measured = { metrics: { port: ports + 30 } };
  const socket = { sockets: [{ name: "http", listen: `127.0.0.1:${ports + 1}` }] };
  const logged = { logs: { file: { path: join(directory, "web.log") } } };

  return {
    "admin.port": refused(0, ports + 2),
    "admin.address": refused("127.0.0.1", "127.0.0.2"),
    "admin.socket": refused(join(directory, "a.sock"), join(directory, "b.sock")),
    "admin.token_file": refused(file("token-1", `${"a".repeat(40)}\n`), file("token-2", `${"b".repeat(40)}\n`)),
    "supervisor.shutdown_timeout": policy("50s", "51s"),
    "supervisor.pre_stop_delay": policy("0s", "10ms"),
    "supervisor.start_parallelism": policy(undefined, 2),
    "supervisor.runtime_dir": refused(subdirectory("run-1"), subdirectory("run-2"), proxied),

    replicas: policy(1, 2),
    "autoscale.min": policy(1, 2, scaled),
    "autoscale.max": policy(4, 5, scaled),
    "autoscale.cpu": policy(0.5, 0.6, scaled),
    "autoscale.in_flight": policy(1, 2, { ...proxied, autoscale: { max: 4 } }),
    "autoscale.up_after": policy("5s", "6s", scaled),
    "autoscale.down_after": policy("50s", "60s", scaled),
    type: refused("service", "oneshot"),
    depends_on: policy(undefined, { other: "started" }),
    command: launch("sleep 1000", "sleep 1001", { exec: undefined, args: undefined }),
    exec: launch("sleep", "/bin/sh"),
    args: launch(["1000"], ["1001"]),
    env: launch({ A: "1" }, { A: "2" }),
    env_file: launch(file("env-1", "A=1\n"), file("env-2", "A=2\n")),
    cwd: launch("/", directory),
    user: { ...launch("1001", "1002"), needsRoot: true },
    group: { ...launch("1001", "1002"), needsRoot: true },
    umask: launch("022", "027"),
    nice: launch(1, 2),
    oom_score_adj: launch(100, 200),
    rlimits: launch({ nofile: 100 }, { nofile: 200 }),
    startup_wait_time: policy("0s", "1s"),
    stop_signal: policy("SIGTERM", "SIGINT"),
    stop_signal_target: policy("group", "leader"),
    signal_timeout: policy("9s", "8s"),
    max_restarts: policy(undefined, 3),
    restart_window: policy("10m", "1m"),
    "restart.policy": policy("always", "on-failure"),
    "restart.expected_exit_codes": policy([], [0]),
    "restart.backoff.initial": policy("100ms", "200ms"),
    "restart.backoff.max": policy("30s", "20s"),
    "restart.backoff.factor": policy(2, 3),
    "restart.backoff.jitter": policy(0.2, 0.1),
    "restart.backoff.reset_after": policy("60s", "50s"),
    "restart.on_exhausted": policy("shutdown", "give-up-worker"),
    desired_healthy_percentage: policy(75, 50),
    "limits.lifespan": policy(undefined, "10h"),
    "limits.jitter_ratio": policy(0, 0.1),
    "limits.memory": policy(undefined, "1GiB"),
    "limits.memory_hard": policy(undefined, "1GiB"),
    "limits.memory_kind": policy("rss", "pss"),
    "limits.requests": policy(undefined, 1000, proxied),
    ...probeCases("startup", ports),
    ...probeCases("readiness", ports),
    ...probeCases("liveness", ports),
    "rolling.max_surge": policy(1, 2),
    "rolling.max_unavailable": policy(0, 1),
    "rolling.min_ready": policy("0s", "1s"),
    standby: policy(0, 1, proxied),
    "sockets[].name": refused("http", "other", socket),
    "sockets[].listen": refused(`127.0.0.1:${ports + 1}`, `127.0.0.1:${ports + 2}`, socket),
    "sockets[].backlog": refused(100, 200, socket),
    "logs.mode": launch("annotate", "inherit"),
    "logs.max_line": policy("1MiB", "2KiB"),
    "logs.stderr_level": policy("info", "warn"),
    "logs.file.path": policy(join(directory, "a.log"), join(directory, "b.log")),
    "logs.file.max_size": policy("1MiB", "2MiB", logged),
    "logs.file.keep": policy(5, 6, logged),
    "logs.file.compress": policy("none", "gzip", logged),
    "logs.file.only": policy(false, true, logged),
    "logs.file.on_error": policy("discard", "block", logged),
    "metrics.path": policy("/metrics", "/stats", measured),
    "metrics.port": launch(ports + 30, ports + 40),
    "metrics.scope": launch("worker", "pool", measured),
    "metrics.multiproc": launch(false, true, measured),

    "server.exec": refused("envoy", "/usr/bin/envoy"),
    "server.user": { ...refused("1001", "1002"), needsRoot: true },
    "server.start_port": launch(ports + 10, ports + 20, { server: { ...server, socket_arg: undefined } }),
    "server.port_arg.name": launch("--port", "-p", onPort),
    "server.port_arg.start_port": launch(ports + 10, ports + 20, onPort),
    "server.port_arg.value_template": launch("{{.Port}}", "127.0.0.1:{{.Port}}", onPort),
    "server.socket_arg.name": launch("--socket", "--uds"),
    "server.socket_arg.value_template": launch("{{.Socket}}", "unix:{{.Socket}}"),
    "server.socket_env": launch("SOCKET", "UDS", { server: { ...server, socket_arg: undefined } }),
    "server.signal_timeout": policy("9s", "8s"),
    "server.drain_timeout": change("policy", "proxy")("30s", "2s"),
    "server.health_check_path": proxy("/healthz", "/ready"),
    "server.health_check_host": proxy("localhost", "example.com", {
      server: { ...server, health_check_path: "/healthz" },
    }),
    "server.load_balancer_algorithm": proxy("ROUND_ROBIN", "LEAST_REQUEST"),
    "server.hash_on": proxy("header:a", "header:b", hashed),
    "server.listener_port": proxy(ports, ports + 2),
    "server.listener_address": proxy("127.0.0.1", "127.0.0.2"),
    "server.admin_port": refused(undefined, ports + 2),
    "server.proxy_config_path": refused(subdirectory("envoy-1"), subdirectory("envoy-2")),
    "server.protocol": change("launch", "proxy")("http", "grpc"),
    "server.request_timeout": proxy("0s", "5s"),
    "server.max_concurrent_per_worker": proxy("unlimited", 4),
    "server.max_queue": proxy(1024, 5),
    "server.worker_keepalive": proxy("1s", "2s"),
    "server.max_headers": proxy(1000, 5),
    "server.max_header_size": proxy("256KiB", "8KiB"),
    "server.trusted_hops": proxy(1, 2),
    "server.concurrency": refused(1, 2),
    "server.access_log": proxy(false, true),
    "server.tls.cert": proxy(file("cert-1.pem"), file("cert-2.pem"), tls),
    "server.tls.key": proxy(file("key-1.pem"), file("key-2.pem"), tls),
  };
}

/** Cases that add or remove a whole block, by key. */
export function blockCases(ports: number): Readonly<Record<string, ChangeCase>> {
  return {
    metrics: launch(undefined, { port: ports + 30 }),
    probes: launch(undefined, { liveness: { exec: ["true"] } }),
    autoscale: policy(undefined, { max: 4, cpu: 0.5 }),
    server: refused(undefined, serverBlock(ports)),
    "server.tls": proxy(undefined, { cert: "/cert.pem", key: "/key.pem" }),
  };
}

/** Number of consecutive ports that the cases use. */
export const CASE_PORTS = 60;

function serverBlock(ports: number): Block {
  return { socket_arg: { name: "--socket" }, listener_address: "127.0.0.1", listener_port: ports };
}

function probeCases(purpose: "startup" | "readiness" | "liveness", ports: number): Readonly<Record<string, KeyCase>> {
  const probe = { probes: { [purpose]: { exec: ["true"] } } };
  const http = { probes: { [purpose]: { http: { port: ports + 3 } } } };
  const cases: Readonly<Record<string, KeyCase>> = {
    "http.path": launch("/a", "/b", http),
    "http.port": launch(ports + 3, ports + 4),
    "http.headers": launch({ "X-A": "1" }, { "X-A": "2" }, http),
    "tcp.port": launch(ports + 3, ports + 4),
    "grpc.port": launch(ports + 3, ports + 4),
    "grpc.service": launch("a", "b", { probes: { [purpose]: { grpc: { port: ports + 3 } } } }),
    exec: launch(["true", "a"], ["true", "b"]),
    notify: purpose === "readiness" ? launch(undefined, true) : { other: true, pool: {} },
    sd_notify: purpose === "startup" ? { other: true, pool: {} } : launch(undefined, true),
    einhorn:
      purpose === "readiness"
        ? launch(undefined, true, { sockets: [{ name: "http", listen: `127.0.0.1:${ports + 5}` }] })
        : { other: true, pool: {} },
    initial_delay: launch("0s", "1s", probe),
    period: launch("1s", "2s", probe),
    timeout: launch("1s", "2s", probe),
    failure_threshold: launch(3, 4, probe),
    success_threshold: purpose === "readiness" ? launch(1, 2, probe) : { other: 2, pool: probe },
  };
  return Object.fromEntries(Object.entries(cases).map(([key, each]) => [`probes.${purpose}.${key}`, each]));
}

/**
 * A configuration of one pool `web` with `value` at a key of the cases; undefined omits the key. Blocks around the key
 * are created.
 */
export function configurationWith(key: string, value: unknown, more: Block, directory: string, ports: number): Block {
  const server = key.startsWith("server.") ? { server: serverBlock(ports) } : {};
  const pool = { name: "web", exec: "sleep", args: ["1000"], rolling: { min_ready: "0s" }, ...server, ...more };
  const admin = { port: 0, address: "127.0.0.1", socket: join(directory, "control.sock") };
  const isOfPool = !/^(?:admin|supervisor)\./u.test(key);
  const others = key === "depends_on" ? [{ ...pool, name: "other" }] : [];
  const workers = [isOfPool ? put(pool, key.split("."), value) : pool, ...others];
  const whole = { admin, supervisor: { workers } };
  return (isOfPool ? whole : put(whole, key.split("."), value)) as Block;
}

/** The block with a value at a path. `name[]` is the first item of a list. Empty blocks are omitted. */
export function put(block: unknown, [first = "", ...rest]: readonly string[], value: unknown): unknown {
  if (first === "") return value;
  const name = first.replace("[]", "");
  const known = (block ?? {}) as Block;
  const isItem = first.endsWith("[]");
  const inner = put(isItem ? (known[name] as readonly unknown[] | undefined)?.[0] : known[name], rest, value);
  const changed = { ...known, [name]: isItem ? [inner] : inner };
  return Object.values(changed).every((each) => each === undefined) ? undefined : changed;
}
