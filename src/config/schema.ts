/**
 * Declares every key of the configuration once. Reading, its problems, the Config value, the JSON Schema,
 * docs/configuration.md and `config show` derive from it. Rules between keys of different pools are in rules.ts.
 */

import { MAX_REPLICAS } from "../core/spec.ts";
import type {
  AdminConfig,
  AutoscaleConfig,
  BackoffConfig,
  Config,
  GrpcProbeConfig,
  HttpProbeConfig,
  LimitsConfig,
  LogsConfig,
  MetricsConfig,
  PoolConfig,
  PortArgConfig,
  ProbeConfig,
  ProbesConfig,
  RestartConfig,
  RollingConfig,
  ServerConfig,
  SocketArgConfig,
  SocketConfig,
  SupervisorConfig,
  TcpProbeConfig,
  TlsConfig,
} from "./config.ts";
import { DEFAULT_OOM_SCORE_ADJ } from "./config.ts";
import { type Kind, list, map, object } from "./field.ts";
import {
  FOREIGN_ADMIN_KEYS,
  FOREIGN_LIMITS_KEYS,
  FOREIGN_POOL_KEYS,
  FOREIGN_PROBE_KEYS,
  FOREIGN_SERVER_KEYS,
  FOREIGN_SUPERVISOR_KEYS,
  FOREIGN_TOP_KEYS,
  replicasHint,
} from "./hints.ts";
import { didYouMean } from "./nearest.ts";
import {
  checkAutoscale,
  checkBackoff,
  checkConfig,
  checkLimits,
  checkMetrics,
  checkPool,
  checkProbe,
  checkProbes,
  checkRolling,
  checkServer,
  checkSupervisor,
} from "./rules.ts";
import {
  boolean,
  duration,
  integer,
  integerOr,
  number,
  oneOf,
  oomScore,
  port,
  RLIMIT_NAMES,
  rlimit,
  share,
  signalName,
  size,
  templated,
  text,
  umask,
  urlPath,
} from "./scalars.ts";
import { template } from "./template.ts";

const isZero = (value: number): boolean => value === 0;
const isNegative = (value: number): boolean => value < 0;

const variableName = {
  label: "name",
  check: (key: string) => (/^[^=\u0000]+$/u.test(key) ? undefined : 'expected a name without "=" and zero bytes'),
};

const headerName = {
  label: "name",
  check: (key: string) =>
    /^[!#$%&'*+.^_`|~\dA-Za-z-]+$/u.test(key) ? undefined : "expected the name of a header, such as Host",
};

/** The value of an HTTP header: no line breaks or other control characters. */
const headerValue = text({
  label: "string",
  empty: true,
  expected: "the value of a header: visible ASCII characters, spaces and tabs",
  pattern: /^[\t\u0020-\u007e]*$/u,
});

const rlimitName = {
  label: "limit",
  check: (key: string) =>
    RLIMIT_NAMES.includes(key)
      ? undefined
      : `unknown limit ${JSON.stringify(key.slice(0, 40))}${didYouMean(key, RLIMIT_NAMES) || `, expected one of ${RLIMIT_NAMES.join(", ")}`}`,
};

const backoff: Kind<BackoffConfig> = object<BackoffConfig>(
  {
    initialMs: {
      yaml: "initial",
      kind: duration(),
      default: 100,
      since: "new",
      doc: "Wait before the second restart in a row; the first one is immediate.",
    },
    maxMs: { yaml: "max", kind: duration(), default: 30_000, since: "new", doc: "Longest wait, before jitter." },
    factor: {
      yaml: "factor",
      kind: number(1, 100),
      default: 2,
      since: "new",
      doc: "Factor by which each wait exceeds the previous one.",
    },
    jitter: {
      yaml: "jitter",
      kind: number(0, 1),
      default: 0.2,
      since: "new",
      doc: "Random share of the wait: 0.2 gives 0.8 to 1.2 times the wait.",
    },
    resetAfterMs: {
      yaml: "reset_after",
      kind: duration(),
      default: 60_000,
      since: "new",
      doc: "After an uptime of this length the next crash counts as the first one.",
    },
  },
  checkBackoff,
);

const restart: Kind<RestartConfig> = object<RestartConfig>({
  policy: {
    yaml: "policy",
    kind: oneOf(["always", "on-failure", "never"]),
    default: "always",
    since: "new",
    doc: "Which exits that the controller did not request restart the worker. `always`: all of them. `on-failure`: all but code 0 and `expected_exit_codes`. `never`: none. A worker that is not restarted stays down until `monoceros start`.",
  },
  expectedExitCodes: {
    yaml: "expected_exit_codes",
    kind: list(integer(0, 255)),
    default: [],
    since: "new",
    doc: "Exit codes that do not count as crashes, such as `[0]` for servers that exit after a number of requests (`--limit-max-requests`, `max_requests`). The worker is replaced at once, without backoff, and the exit does not count against `max_restarts`.",
  },
  backoff: { yaml: "backoff", kind: backoff, filled: true, since: "new", doc: "Waits between restarts in a row." },
  onExhausted: {
    yaml: "on_exhausted",
    kind: oneOf(["shutdown", "give-up-worker"]),
    default: "shutdown",
    since: "new",
    doc: "What happens at the restart limit: the controller shuts down gracefully and exits with 1, or only this worker stays down.",
  },
});

const autoscale: Kind<AutoscaleConfig> = object<AutoscaleConfig>(
  {
    min: { yaml: "min", kind: integer(1, MAX_REPLICAS), default: 1, since: "new", doc: "Minimum number of workers." },
    max: {
      yaml: "max",
      kind: integer(1, MAX_REPLICAS),
      required: true,
      since: "new",
      doc: "Maximum number of workers. A pool with `start_port` reserves ports for this many.",
    },
    cpu: {
      yaml: "cpu",
      kind: number(0.01, 1024),
      default: undefined,
      since: "new",
      doc: "Target average CPU usage per worker, in CPUs: 0.7 is 70 % of one. Exactly one of `cpu` and `in_flight` must be set.",
    },
    inFlight: {
      yaml: "in_flight",
      kind: number(0.01, 1_000_000),
      default: undefined,
      since: "new",
      doc: "Target average of requests in flight per worker; proxy mode.",
    },
    upAfterMs: {
      yaml: "up_after",
      kind: duration(),
      default: 15_000,
      since: "new",
      doc: "How long the load must have exceeded the target before the pool grows.",
    },
    downAfterMs: {
      yaml: "down_after",
      kind: duration(),
      default: 300_000,
      since: "new",
      doc: "How long fewer workers must have been enough before the pool shrinks.",
    },
  },
  checkAutoscale,
);

const limits: Kind<LimitsConfig> = object<LimitsConfig>(
  {
    lifespanMs: {
      yaml: "lifespan",
      kind: duration(),
      default: undefined,
      unset: "unlimited",
      isUnset: isZero,
      since: "original",
      doc: "Maximum age. A worker that reaches it is replaced gracefully. 0 is the same as unset.",
    },
    jitterRatio: {
      yaml: "jitter_ratio",
      kind: number(0, 1),
      default: 0,
      since: "original",
      doc: "Spreads `lifespan` and `requests`, so that workers are not all replaced at once: 0.1 gives 0.9 to 1.1 of the value.",
    },
    memoryBytes: {
      yaml: "memory",
      kind: size(),
      default: undefined,
      unset: "unlimited",
      isUnset: isZero,
      since: "original",
      doc: "Memory limit of a worker, all its processes together. A worker above it in two consecutive samples, at least a second apart, is replaced gracefully. 0 is the same as unset.",
    },
    memoryHardBytes: {
      yaml: "memory_hard",
      kind: size(1),
      default: undefined,
      unset: "unlimited",
      since: "new",
      doc: "Hard memory limit; at least `memory`. A worker above it is killed at once with all its processes. If it was not ready yet, that counts as a crash.",
    },
    memoryKind: {
      yaml: "memory_kind",
      kind: oneOf(["rss", "pss"]),
      default: "rss",
      since: "new",
      doc: "How memory is counted over the worker's process tree: resident set size, or proportional set size, which divides shared pages among the processes that map them and costs more to read. `pss` of workers of another user needs CAP_SYS_PTRACE.",
    },
    requests: {
      yaml: "requests",
      kind: integer(1),
      default: undefined,
      unset: "unlimited",
      since: "new",
      doc: "Requests after which a worker is replaced, in proxy mode.",
    },
  },
  checkLimits,
  FOREIGN_LIMITS_KEYS,
);

const ownPort = "the worker's";

const httpProbe: Kind<HttpProbeConfig> = object<HttpProbeConfig>({
  path: {
    yaml: "path",
    kind: urlPath,
    default: "/",
    since: "new",
    doc: "Path to GET. 200 to 399 is success; redirects are not followed.",
  },
  port: {
    yaml: "port",
    kind: port(1),
    default: undefined,
    unset: ownPort,
    since: "new",
    doc: "Port to probe, if it differs from the worker's.",
  },
  headers: {
    yaml: "headers",
    kind: map(headerValue, headerName),
    default: {},
    secret: true,
    since: "new",
    doc: "Request headers, added to `Host: localhost`, `User-Agent` and `Accept`. A header with one of these names replaces the default. Values are never shown.",
  },
});

const tcpProbe: Kind<TcpProbeConfig> = object<TcpProbeConfig>({
  port: {
    yaml: "port",
    kind: port(1),
    default: undefined,
    unset: ownPort,
    since: "new",
    doc: "Port to connect to, if it differs from the worker's.",
  },
});

const grpcProbe: Kind<GrpcProbeConfig> = object<GrpcProbeConfig>({
  port: {
    yaml: "port",
    kind: port(1),
    default: undefined,
    unset: ownPort,
    since: "new",
    doc: "Port to probe, if it differs from the worker's.",
  },
  service: {
    yaml: "service",
    kind: text(),
    default: undefined,
    since: "new",
    doc: "Name of the service to check; unset is the server as a whole.",
  },
});

const probe: Kind<ProbeConfig> = object<ProbeConfig>(
  {
    http: {
      yaml: "http",
      kind: httpProbe,
      default: undefined,
      since: "new",
      doc: "Probes by HTTP. Exactly one of `http`, `tcp`, `grpc`, `exec` and `notify` must be set.",
    },
    tcp: {
      yaml: "tcp",
      kind: tcpProbe,
      default: undefined,
      since: "new",
      doc: "Probes by a TCP connection; success if it opens.",
    },
    grpc: {
      yaml: "grpc",
      kind: grpcProbe,
      default: undefined,
      since: "new",
      doc: "Probes by the gRPC health protocol, without TLS; SERVING is success.",
    },
    exec: {
      yaml: "exec",
      kind: list(templated, { min: 1 }),
      default: undefined,
      since: "new",
      doc: "Runs a command with the worker's user, directory and environment, its process id in `MONOCEROS_WORKER_PID`; exit code 0 is success. Templates as in `args`.",
    },
    notify: {
      yaml: "notify",
      kind: boolean,
      default: undefined,
      since: "new",
      doc: "The worker reports that it is ready by writing a newline to the descriptor in `MONOCEROS_NOTIFY_FD`; readiness only.",
    },
    initialDelayMs: {
      yaml: "initial_delay",
      kind: duration(),
      default: 0,
      since: "new",
      doc: "Delay between the worker's start and the first attempt.",
    },
    periodMs: {
      yaml: "period",
      kind: duration(10),
      default: 10_000,
      since: "new",
      doc: "Time between attempts. Jitter makes it up to a tenth longer for startup and up to a tenth shorter for the others.",
    },
    timeoutMs: {
      yaml: "timeout",
      kind: duration(1),
      default: 1000,
      since: "new",
      doc: "Time limit of an attempt.",
    },
    failureThreshold: {
      yaml: "failure_threshold",
      kind: integer(1, 1_000_000),
      default: 3,
      since: "new",
      doc: "Consecutive failures after which the probe fails.",
    },
    successThreshold: {
      yaml: "success_threshold",
      kind: integer(1, 1_000_000),
      default: 1,
      since: "new",
      doc: "Consecutive successes after which the probe passes again; 1 for startup and liveness.",
    },
  },
  checkProbe,
  FOREIGN_PROBE_KEYS,
);

const probes: Kind<ProbesConfig> = object<ProbesConfig>(
  {
    startup: {
      yaml: "startup",
      kind: probe,
      default: undefined,
      since: "new",
      doc: "Until it passes, the worker is starting and the other probes wait. If it fails, the worker is restarted.",
    },
    readiness: {
      yaml: "readiness",
      kind: probe,
      default: undefined,
      since: "new",
      doc: "While it fails, the worker receives no traffic.",
    },
    liveness: {
      yaml: "liveness",
      kind: probe,
      default: undefined,
      since: "new",
      doc: "If it fails, the worker is replaced. If many fail together, only some are replaced at a time.",
    },
  },
  checkProbes,
);

const rolling: Kind<RollingConfig> = object<RollingConfig>(
  {
    maxSurge: {
      yaml: "max_surge",
      kind: share,
      default: 1,
      since: "new",
      doc: "Workers above `replicas` while a pool is replaced; a percentage is of `replicas`, rounded up. 0 replaces in place.",
    },
    maxUnavailable: {
      yaml: "max_unavailable",
      kind: share,
      default: 0,
      since: "new",
      doc: "Workers below `replicas` that may be missing during a replacement; a percentage is rounded down.",
    },
    minReadyMs: {
      yaml: "min_ready",
      kind: duration(),
      default: 5000,
      since: "new",
      doc: "With `server` or probes: how long the first new worker of a restart, scale or reload must stay ready before the next predecessor stops. Without: how long each successor must be seen serving before its predecessor stops, and how long a worker that never listens must run before it counts as ready.",
    },
  },
  checkRolling,
);

const socket: Kind<SocketConfig> = object<SocketConfig>({
  name: {
    yaml: "name",
    kind: text({ expected: "letters, digits, _ . or -", pattern: /^[A-Za-z0-9_.-]{1,63}$/u }),
    required: true,
    since: "new",
    doc: "Name in `LISTEN_FDNAMES`.",
  },
  listen: {
    yaml: "listen",
    kind: text({
      label: "address",
      expected: 'an address with a port such as "0.0.0.0:8080" or "[::]:8080", or an absolute path',
      pattern: /^(?:(?:[A-Za-z0-9.-]*|\[[\da-fA-F:.]+\]):\d{1,5}|\/.+)$/u,
    }),
    required: true,
    since: "new",
    doc: "Address and port, or the absolute path of a Unix socket.",
  },
  backlog: {
    yaml: "backlog",
    kind: integer(1, 1_000_000),
    default: 1024,
    since: "new",
    doc: "Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.",
  },
});

const logs: Kind<LogsConfig> = object<LogsConfig>({
  mode: {
    yaml: "mode",
    kind: oneOf(["annotate", "inherit"]),
    default: "annotate",
    since: "new",
    doc: "`annotate` adds the worker's id to each line; `inherit` passes the controller's stdout and stderr to workers, at no cost.",
  },
  maxLineBytes: {
    yaml: "max_line",
    kind: size(1024, 64 * 1024 * 1024),
    default: 1024 * 1024,
    since: "new",
    doc: "Longer lines are split into records that are marked as parts.",
  },
  stderrLevel: {
    yaml: "stderr_level",
    kind: oneOf(["debug", "info", "warn", "error", "fatal"]),
    default: "info",
    since: "new",
    doc: "Level of text lines on stderr that state none. The formats of common logging libraries are recognised.",
  },
});

const metrics: Kind<MetricsConfig> = object<MetricsConfig>(
  {
    path: { yaml: "path", kind: urlPath, default: "/metrics", since: "new", doc: "Path of the metrics of a worker." },
    port: {
      yaml: "port",
      kind: port(1),
      default: undefined,
      unset: ownPort,
      since: "new",
      doc: "Metrics port of slot 0, if it differs from the worker's own; the port of slot n is n higher. A worker finds its own in `MONOCEROS_METRICS_PORT`. With scope `pool` it may be the port of one of the pool's `sockets`, which all workers share.",
    },
    scope: {
      yaml: "scope",
      kind: oneOf(["worker", "pool"]),
      default: undefined,
      unset: "`worker`, or `pool` with `multiproc`",
      since: "new",
      doc: "What the metrics of one worker cover. `worker`: itself only, so the controller scrapes every worker and sums the totals. `pool`: all workers of the pool, so the controller scrapes one of them and uses its totals for the pool.",
    },
    multiproc: {
      yaml: "multiproc",
      kind: boolean,
      default: false,
      since: "new",
      doc: "Gives the pool a fresh directory in `PROMETHEUS_MULTIPROC_DIR`, for prometheus_client's multiprocess mode, and removes the live gauges of dead processes from it.",
    },
  },
  checkMetrics,
);

const portArg: Kind<PortArgConfig> = object<PortArgConfig>({
  name: {
    yaml: "name",
    kind: text(),
    default: undefined,
    since: "original",
    doc: "The argument before the port. Without it only the value is added.",
  },
  startPort: {
    yaml: "start_port",
    kind: port(1),
    required: true,
    since: "original",
    doc: "Port of slot 0; slot n gets the nth port after it.",
  },
  valueTemplate: {
    yaml: "value_template",
    kind: templated,
    default: template("{{.Port}}"),
    since: "original",
    doc: "The argument that holds the port.",
  },
});

const socketArg: Kind<SocketArgConfig> = object<SocketArgConfig>({
  name: { yaml: "name", kind: text(), required: true, since: "new", doc: "The argument before the socket." },
  valueTemplate: {
    yaml: "value_template",
    kind: templated,
    default: template("{{.Socket}}"),
    since: "new",
    doc: "The argument that holds the path of the socket.",
  },
});

const tls: Kind<TlsConfig> = object<TlsConfig>({
  cert: {
    yaml: "cert",
    kind: text({ label: "path" }),
    required: true,
    since: "new",
    doc: "File of the certificate chain (PEM).",
  },
  key: {
    yaml: "key",
    kind: text({ label: "path" }),
    required: true,
    since: "new",
    doc: "File of the private key (PEM).",
  },
});

const server: Kind<ServerConfig> = object<ServerConfig>(
  {
    exec: {
      yaml: "exec",
      kind: text({ isPath: true }),
      default: undefined,
      unset: "`envoy` on PATH, or beside the executable of monoceros",
      since: "new",
      doc: "Envoy binary; a path, or a name looked up on PATH. 1.31 or later.",
    },
    user: {
      yaml: "user",
      kind: text(),
      default: undefined,
      unset: "a user of its own if the controller is root and the workers are not, otherwise the controller's",
      since: "new",
      doc: "Name or number of the user that Envoy runs as ([traffic.md](traffic.md#envoy)). Only root can set another one than its own.",
    },
    startPort: {
      yaml: "start_port",
      kind: port(1),
      default: undefined,
      since: "new",
      doc: "Port of slot 0; slot n gets the nth port after it. The worker finds its own in `PORT`, or in its arguments as `{{.Port}}`; no argument is added. Exactly one of `start_port`, `port_arg` and `socket_arg` must be set.",
    },
    portArg: {
      yaml: "port_arg",
      kind: portArg,
      default: undefined,
      since: "original",
      doc: "Arguments with the port of a worker, inserted before `args`.",
    },
    socketArg: {
      yaml: "socket_arg",
      kind: socketArg,
      default: undefined,
      since: "new",
      doc: "Two arguments, put before `args`, that tell a worker its Unix socket.",
    },
    signalTimeoutMs: {
      yaml: "signal_timeout",
      kind: duration(),
      default: 10_000,
      isUnset: isZero,
      since: "original",
      doc: "Time between the request that Envoy exits and its SIGKILL. 0 is the same as unset.",
    },
    drainTimeoutMs: {
      yaml: "drain_timeout",
      kind: duration(),
      default: 30_000,
      since: "new",
      doc: "Drain limit: how long a stopping worker, or at a shutdown the whole pool, may finish its requests while it receives no new ones. Requests still in flight after it are cut off, counted and reported.",
    },
    healthCheckPath: {
      yaml: "health_check_path",
      kind: urlPath,
      default: undefined,
      unset: "no check",
      since: "original",
      doc: "Path that Envoy probes on each worker.",
    },
    healthCheckHost: {
      yaml: "health_check_host",
      kind: text({ expected: "a host, with or without a port", pattern: /^[^\s\u0000-\u001f\u007f-\uffff]+$/u }),
      default: "localhost",
      since: "new",
      doc: "`Host` header of the requests for `health_check_path`, for workers that reject unknown hosts.",
    },
    loadBalancerAlgorithm: {
      yaml: "load_balancer_algorithm",
      kind: oneOf(["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"], { ignoreCase: true }),
      default: "ROUND_ROBIN",
      since: "original",
      doc: "Load balancing algorithm; LEAST_REQUEST compares all workers.",
    },
    hashOn: {
      yaml: "hash_on",
      kind: text({
        expected: "header:<name>, cookie:<name>, query:<name> or source_ip",
        pattern: /^(?:source_ip|(?:header|cookie|query):[^\s:]+)$/u,
      }),
      default: undefined,
      since: "new",
      doc: "What RING_HASH and MAGLEV hash: `header:<name>`, `cookie:<name>`, `query:<name>` or `source_ip`.",
    },
    listenerPort: {
      yaml: "listener_port",
      kind: port(0),
      default: 10_000,
      isUnset: isZero,
      since: "original",
      doc: "Port on which Envoy listens. 0 is the same as unset.",
    },
    listenerAddress: {
      yaml: "listener_address",
      kind: text({ label: "address" }),
      default: "0.0.0.0",
      since: "new",
      doc: "Address on which Envoy listens.",
    },
    adminPort: {
      yaml: "admin_port",
      kind: port(0),
      default: undefined,
      unset: "a Unix socket",
      isUnset: isZero,
      since: "original",
      doc: "Port of Envoy's own admin interface, on loopback. Unset or 0: a Unix socket in the runtime directory.",
    },
    proxyConfigPath: {
      yaml: "proxy_config_path",
      kind: text({ label: "path" }),
      default: undefined,
      unset: "`runtime_dir`",
      since: "original",
      doc: "Directory for Envoy's files.",
    },
    protocol: {
      yaml: "protocol",
      kind: oneOf(["http", "grpc", "tcp"]),
      default: "http",
      since: "new",
      doc: "Protocol of clients; `http` is HTTP/1.1, HTTP/2 and WebSocket.",
    },
    requestTimeoutMs: {
      yaml: "request_timeout",
      kind: duration(),
      default: 0,
      since: "new",
      doc: "Time limit of a request; 0 is unlimited.",
    },
    maxConcurrentPerWorker: {
      yaml: "max_concurrent_per_worker",
      kind: integerOr("unlimited", 1, 'a whole number greater than 0 or "unlimited"'),
      default: "unlimited",
      since: "new",
      doc: "Maximum concurrent requests per worker.",
    },
    maxQueue: {
      yaml: "max_queue",
      kind: integer(0, 10_000_000),
      default: 1024,
      since: "new",
      doc: "Maximum requests that wait for a worker; further ones are answered with 503.",
    },
    workerKeepaliveMs: {
      yaml: "worker_keepalive",
      kind: duration(),
      default: 1000,
      since: "new",
      doc: "How long Envoy keeps an idle connection to a worker; must be shorter than the worker's own keep-alive.",
    },
    maxHeaders: {
      yaml: "max_headers",
      kind: integer(1, 100_000),
      default: 1000,
      since: "new",
      doc: "Maximum number of header lines in a request or a response. Envoy answers a request with more with 431 (over HTTP/2 it resets the stream), and replaces a response with more by 502.",
    },
    maxHeaderBytes: {
      yaml: "max_header_size",
      kind: size(1024, 8 * 1024 * 1024),
      default: 256 * 1024,
      since: "new",
      doc: "Maximum total size of the headers of a request or a response, rounded up to KiB. The target of a request counts. Larger ones are answered as for `max_headers`.",
    },
    trustedHops: {
      yaml: "trusted_hops",
      kind: integer(0, 100),
      default: 1,
      since: "new",
      doc: "Number of proxies in front of this one whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted. `hash_on: source_ip` and the access log use the address that the outermost of them saw, or that of the client if it sends no `X-Forwarded-For`. With 0 no client is trusted, and `X-Forwarded-Proto` is overwritten.",
    },
    concurrency: { yaml: "concurrency", kind: integer(1, 1024), default: 1, since: "new", doc: "Envoy's threads." },
    accessLog: {
      yaml: "access_log",
      kind: boolean,
      default: false,
      since: "new",
      doc: "Whether Envoy logs each request.",
    },
    tls: { yaml: "tls", kind: tls, default: undefined, unset: "off", since: "new", doc: "TLS towards clients." },
  },
  checkServer,
  FOREIGN_SERVER_KEYS,
);

const pool: Kind<PoolConfig> = object<PoolConfig>(
  {
    name: {
      yaml: "name",
      kind: text({
        expected: "1 to 63 letters, digits, _ . or -, the first a letter, digit or _",
        pattern: /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/u,
      }),
      required: true,
      since: "original",
      doc: "Name of the pool, different from all others; workers are `<name>-0`, `<name>-1` and so on.",
    },
    replicas: {
      yaml: "replicas",
      kind: integerOr("auto", 1, 'a number greater than 0 or "auto"', MAX_REPLICAS, replicasHint),
      default: 1,
      since: "original",
      doc: `How many workers run, at most ${MAX_REPLICAS}; \`auto\` is one for each CPU that the cgroup and the affinity mask really give.`,
    },
    autoscale: {
      yaml: "autoscale",
      kind: autoscale,
      default: undefined,
      since: "new",
      doc: "Scales the pool between `min` and `max` so that the load per worker meets the target; `replicas` is the initial number.",
    },
    exec: {
      yaml: "exec",
      kind: text({ isPath: true }),
      required: true,
      since: "original",
      doc: "Executable: a path, or a name that is looked up on PATH.",
    },
    args: {
      yaml: "args",
      kind: list(templated, { max: 100_000 }),
      default: [],
      since: "original",
      doc: "Arguments, exactly as written; numbers need no quotes. `{{.Port}}`, `{{.Socket}}`, `{{.WorkerID}}`, `{{.Pool}}`, `{{.Slot}}` and `{{.Fd}}` are replaced.",
    },
    env: {
      yaml: "env",
      kind: map(templated, variableName),
      default: {},
      secret: true,
      since: "new",
      doc: "Environment variables in addition to those of the controller, with the same templates as `args`. Values are never shown.",
    },
    envFile: {
      yaml: "env_file",
      kind: text({ label: "path" }),
      default: undefined,
      since: "new",
      doc: "File with `NAME=value` lines in the dialect of docker compose ([operation.md](operation.md#env_file)); `env` takes precedence.",
    },
    cwd: {
      yaml: "cwd",
      kind: text({ label: "path" }),
      default: undefined,
      unset: "the controller's",
      since: "new",
      doc: "Working directory.",
    },
    user: {
      yaml: "user",
      kind: text(),
      default: undefined,
      unset: "the controller's",
      since: "new",
      doc: "Name or number of the user that workers run as.",
    },
    group: {
      yaml: "group",
      kind: text(),
      default: undefined,
      unset: "the user's",
      since: "new",
      doc: "Name or number of the group that workers run as.",
    },
    umask: {
      yaml: "umask",
      kind: umask,
      default: undefined,
      unset: "the controller's",
      since: "new",
      doc: "File mode creation mask, in octal digits.",
    },
    nice: {
      yaml: "nice",
      kind: integer(-20, 19),
      default: undefined,
      unset: "the controller's",
      since: "new",
      doc: "Scheduling priority; a higher number yields more.",
    },
    oomScoreAdj: {
      yaml: "oom_score_adj",
      kind: oomScore,
      default: DEFAULT_OOM_SCORE_ADJ,
      since: "new",
      doc: "How likely the kernel is to kill a worker when memory runs out; a higher number is likelier. A quoted number with a sign is added to the controller's own value. The default makes the kernel kill workers before the controller and Envoy.",
    },
    rlimits: {
      yaml: "rlimits",
      kind: map(rlimit, rlimitName),
      default: {},
      since: "new",
      doc: "Resource limits by their name in setrlimit(2) without RLIMIT_, such as `nofile`. A single value is the soft limit; the hard one stays as it is.",
    },
    startupWaitMs: {
      yaml: "startup_wait_time",
      kind: duration(),
      default: 0,
      since: "original",
      doc: "Pause before each worker's start, so that they do not all boot at once.",
    },
    stopSignal: {
      yaml: "stop_signal",
      kind: signalName,
      default: "SIGTERM",
      since: "new",
      doc: "Stop signal of a worker.",
    },
    stopSignalTarget: {
      yaml: "stop_signal_target",
      kind: oneOf(["group", "leader"]),
      default: "group",
      since: "new",
      doc: "Which processes receive the stop signal: the worker's whole process group, or only its first process, for servers that stop their own children (celery, gunicorn). SIGKILL always goes to the group.",
    },
    signalTimeoutMs: {
      yaml: "signal_timeout",
      kind: duration(),
      default: 10_000,
      isUnset: isZero,
      since: "original",
      doc: "Grace period between the stop signal and SIGKILL for the whole process group. 0 is the same as unset.",
    },
    maxRestarts: {
      yaml: "max_restarts",
      kind: integer(Number.MIN_SAFE_INTEGER),
      default: undefined,
      unset: "unlimited",
      isUnset: isNegative,
      since: "original",
      doc: "Restart limit: unplanned exits within `restart_window`; negative is unlimited.",
    },
    restartWindowMs: {
      yaml: "restart_window",
      kind: duration(1),
      default: 600_000,
      since: "new",
      doc: "Time within which `max_restarts` counts.",
    },
    restart: { yaml: "restart", kind: restart, filled: true, since: "new", doc: "How crashed workers restart." },
    desiredHealthyPercentage: {
      yaml: "desired_healthy_percentage",
      kind: integer(0, 100),
      default: 75,
      since: "original",
      doc: "Percentage of `replicas` that must be ready for the pool to be healthy.",
    },
    limits: {
      yaml: "limits",
      kind: limits,
      filled: true,
      since: "original",
      doc: "Limits at which workers are replaced.",
    },
    probes: {
      yaml: "probes",
      kind: probes,
      default: undefined,
      since: "new",
      doc: "Probes of workers, with the semantics of Kubernetes.",
    },
    rolling: {
      yaml: "rolling",
      kind: rolling,
      filled: true,
      since: "new",
      doc: "How far a rollout may exceed or fall below the number of replicas.",
    },
    standby: {
      yaml: "standby",
      kind: integer(0, MAX_REPLICAS),
      default: 0,
      since: "new",
      doc: "Standby workers: ready, without requests until one is promoted because another worker fails; proxy mode.",
    },
    sockets: {
      yaml: "sockets",
      kind: list(socket, { max: 64 }),
      default: [],
      since: "new",
      doc: "Sockets that the controller binds and all workers of the pool inherit: the shared-socket mode.",
    },
    logs: { yaml: "logs", kind: logs, filled: true, since: "new", doc: "Output of workers." },
    metrics: {
      yaml: "metrics",
      kind: metrics,
      default: undefined,
      since: "new",
      doc: "Metrics that workers expose over HTTP. `/metrics/workers` merges them.",
    },
    server: {
      yaml: "server",
      kind: server,
      default: undefined,
      since: "original",
      doc: "Proxy mode: Envoy in front of the pool.",
    },
  },
  checkPool,
  FOREIGN_POOL_KEYS,
);

const supervisor: Kind<SupervisorConfig> = object<SupervisorConfig>(
  {
    shutdownTimeoutMs: {
      yaml: "shutdown_timeout",
      kind: duration(1),
      default: 60_000,
      since: "new",
      doc: "Time limit of the whole shutdown, `pre_stop_delay` included. Processes that are left after it are killed.",
    },
    preStopDelayMs: {
      yaml: "pre_stop_delay",
      kind: duration(),
      default: 0,
      since: "new",
      doc: "Delay between the shutdown request and the first stop signal. Workers keep serving while `/health/ready` already answers 503.",
    },
    runtimeDir: {
      yaml: "runtime_dir",
      kind: text({ label: "path" }),
      default: undefined,
      unset: "a private temporary directory",
      since: "new",
      doc: "Directory for sockets and Envoy's files.",
    },
    pools: {
      yaml: "workers",
      kind: list(pool, { min: 1 }),
      required: true,
      since: "original",
      doc: "The pools, at least one.",
    },
  },
  checkSupervisor,
  FOREIGN_SUPERVISOR_KEYS,
);

const admin: Kind<AdminConfig> = object<AdminConfig>(
  {
    port: {
      yaml: "port",
      kind: port(0),
      default: 9000,
      since: "original",
      doc: "TCP port of metrics and health; 0 lets the kernel choose.",
    },
    address: {
      yaml: "address",
      kind: text({ label: "address" }),
      default: "0.0.0.0",
      since: "new",
      doc: "Address of that port.",
    },
    socket: {
      yaml: "socket",
      kind: text({ label: "path" }),
      default: undefined,
      unset: "the first writable of the usual places",
      since: "new",
      doc: "Path of the control socket, mode 0600.",
    },
    tokenFile: {
      yaml: "token_file",
      kind: text({ label: "path" }),
      default: undefined,
      since: "new",
      doc: "File with the token for the whole API over TCP; read again when it changes.",
    },
  },
  undefined,
  FOREIGN_ADMIN_KEYS,
);

/** The whole file. */
export const configKind: Kind<Config> = object<Config>(
  {
    admin: { yaml: "admin", kind: admin, filled: true, since: "original", doc: "The controller's own endpoints." },
    supervisor: {
      yaml: "supervisor",
      kind: supervisor,
      required: true,
      since: "original",
      doc: "Pools and how they are supervised.",
    },
  },
  checkConfig,
  FOREIGN_TOP_KEYS,
);
