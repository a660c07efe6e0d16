/** The block `server` of a pool: Envoy in front of the workers. */
import { type Block, block, type CheckContext, type Known, key, type Values } from "../field.ts";
import {
  boolean,
  duration,
  integer,
  integerOr,
  isZero,
  oneOf,
  path,
  port,
  size,
  templated,
  text,
  urlPath,
} from "../scalars.ts";
import { template } from "../template.ts";

const portArg = block({
  name: key("name", text(), {
    change: "launch",
    since: "original",
    doc: "The argument before the port. Without it only the value is added.",
  }),
  startPort: key("start_port", port(1), {
    change: "launch",
    required: true,
    since: "original",
    doc: "Port of slot 0; the port of slot n is n higher.",
  }),
  valueTemplate: key("value_template", templated, {
    change: "launch",
    default: template("{{.Port}}"),
    since: "original",
    doc: "The argument that holds the port.",
  }),
});

const socketArg = block({
  name: key("name", text(), { change: "launch", required: true, doc: "The argument before the socket." }),
  valueTemplate: key("value_template", templated, {
    change: "launch",
    default: template("{{.Socket}}"),
    doc: "The argument that holds the path of the socket.",
  }),
});

const tls = block({
  cert: key("cert", path, { change: "proxy", required: true, doc: "File of the certificate chain (PEM)." }),
  key: key("key", path, { change: "proxy", required: true, doc: "File of the private key (PEM)." }),
});

const host = text({ expected: "a host, with or without a port", pattern: /^[^\s\u0000-\u001f\u007f-\uffff]+$/u });

const algorithm = oneOf(["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"], { ignoreCase: true });

const hashSource = text({
  expected: "header:<name>, cookie:<name>, query:<name> or source_ip",
  pattern: /^(?:source_ip|(?:header|cookie|query):[^\s:]+)$/u,
});

const keys = {
  exec: key("exec", text({ isPath: true }), {
    change: "refused",
    unset: "`envoy` on PATH, or beside the executable of monoceros",
    doc: "Envoy binary; a path, or a name looked up on PATH. 1.31 or later.",
  }),
  user: key("user", text(), {
    change: "refused",
    unset: "a user of its own if the controller is root and the workers are not, otherwise the controller's",
    doc: "Name or number of the user that Envoy runs as ([traffic.md](traffic.md#envoy)). Only root can set a user other than its own.",
  }),
  startPort: key("start_port", port(1), {
    change: "launch",
    doc: "Port of slot 0; the port of slot n is n higher. The worker finds its own in `PORT`, or in its arguments as `{{.Port}}`; no argument is added. Exactly one of `start_port`, `port_arg` and `socket_arg` must be set.",
  }),
  portArg: key("port_arg", portArg, {
    change: "launch",
    since: "original",
    doc: "Arguments with the port of a worker, inserted before `args`.",
  }),
  socketArg: key("socket_arg", socketArg, {
    change: "launch",
    doc: "Two arguments with the Unix socket of a worker, inserted before `args`.",
  }),
  signalTimeoutMs: key("signal_timeout", duration(), {
    change: "policy",
    default: 10_000,
    isUnset: isZero,
    since: "original",
    doc: "Grace period between the request that Envoy exits and SIGKILL. 0 is the same as unset.",
  }),
  // Envoy uses it to limit how long it discourages clients.
  drainTimeoutMs: key("drain_timeout", duration(), {
    change: ["policy", "proxy"],
    default: 30_000,
    doc: "Drain limit: how long a stopping worker, or at a shutdown the whole pool, may finish its requests while it receives no new ones. Requests still in flight after it are cut off, counted and reported.",
  }),
  healthCheckPath: key("health_check_path", urlPath, {
    change: "proxy",
    unset: "no check",
    since: "original",
    doc: "Path that Envoy probes on each worker.",
  }),
  healthCheckHost: key("health_check_host", host, {
    change: "proxy",
    default: "localhost",
    doc: "`Host` header of the requests for `health_check_path`, for workers that reject unknown hosts.",
  }),
  algorithm: key("load_balancer_algorithm", algorithm, {
    change: "proxy",
    default: "ROUND_ROBIN",
    since: "original",
    doc: "Load balancing algorithm; LEAST_REQUEST compares all workers.",
  }),
  hashOn: key("hash_on", hashSource, {
    change: "proxy",
    doc: "What RING_HASH and MAGLEV hash: `header:<name>`, `cookie:<name>`, `query:<name>` or `source_ip`.",
  }),
  listenerPort: key("listener_port", port(0), {
    change: "proxy",
    default: 10_000,
    isUnset: isZero,
    since: "original",
    doc: "Port on which Envoy listens. 0 is the same as unset.",
  }),
  listenerAddress: key("listener_address", text({ label: "address" }), {
    change: "proxy",
    default: "0.0.0.0",
    doc: "Address on which Envoy listens.",
  }),
  adminPort: key("admin_port", port(0), {
    change: "refused",
    unset: "a Unix socket",
    isUnset: isZero,
    since: "original",
    doc: "Port of Envoy's own admin interface, on loopback. Unset or 0: a Unix socket in the runtime directory.",
  }),
  proxyConfigPath: key("proxy_config_path", path, {
    change: "refused",
    unset: "`runtime_dir`",
    since: "original",
    doc: "Directory for Envoy's files.",
  }),
  // The protocol between Envoy and the workers must match on both sides.
  protocol: key("protocol", oneOf(["http", "grpc", "tcp"]), {
    change: ["launch", "proxy"],
    default: "http",
    doc: "Protocol of clients; `http` is HTTP/1.1, HTTP/2 and WebSocket.",
  }),
  requestTimeoutMs: key("request_timeout", duration(), {
    change: "proxy",
    default: 0,
    doc: "Time limit of a request; 0 is unlimited.",
  }),
  maxConcurrentPerWorker: key("max_concurrent_per_worker", integerOr("unlimited", 1), {
    change: "proxy",
    default: "unlimited",
    doc: "Maximum concurrent requests per worker.",
  }),
  maxQueue: key("max_queue", integer(0, 10_000_000), {
    change: "proxy",
    default: 1024,
    doc: "Maximum requests that wait for a worker; Envoy answers further requests with 503.",
  }),
  workerKeepaliveMs: key("worker_keepalive", duration(), {
    change: "proxy",
    default: 1000,
    doc: "How long Envoy keeps an idle connection to a worker; must be shorter than the worker's own keep-alive.",
  }),
  maxHeaders: key("max_headers", integer(1, 100_000), {
    change: "proxy",
    default: 1000,
    doc: "Maximum number of header lines in a request or a response. Envoy answers a request that exceeds it with 431 (over HTTP/2 it resets the stream), and replaces a response that exceeds it by 502.",
  }),
  maxHeaderBytes: key("max_header_size", size(1024, 8 * 1024 * 1024), {
    change: "proxy",
    default: 256 * 1024,
    doc: "Maximum total size of the headers of a request or a response, rounded up to KiB. The target of a request counts. Envoy handles larger headers as for `max_headers`.",
  }),
  trustedHops: key("trusted_hops", integer(0, 100), {
    change: "proxy",
    default: 1,
    doc: "Number of proxies in front of this one whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted. `hash_on: source_ip` and the access log use the address that the outermost of them saw, or that of the client if it sends no `X-Forwarded-For`. With 0 no client is trusted, and `X-Forwarded-Proto` is overwritten.",
  }),
  concurrency: key("concurrency", integer(1, 1024), { change: "refused", default: 1, doc: "Envoy's threads." }),
  accessLog: key("access_log", boolean, { change: "proxy", default: false, doc: "Whether Envoy logs each request." }),
  tls: key("tls", tls, { change: "proxy", unset: "off", doc: "TLS towards clients." }),
};

/** Exactly one of startPort, portArg and socketArg is set. */
export interface ServerConfig extends Values<typeof keys> {}

export const server: Block<ServerConfig, typeof keys> = block(keys, {
  check: checkServer,
  foreign: {
    "host address bind listenaddress": "write listener_address",
    "port listen listenport ports": "write listener_port",
    timeout: "write request_timeout",
    "algorithm balance lbpolicy loadbalancer loadbalancing": "write load_balancer_algorithm",
    "certificate certfile keyfile ssl https": "write tls with cert and key",
    "keepalive keepalivetimeout": "write worker_keepalive",
    "envoy binary path": "write exec",
    "healthcheck healthcheckurl healthpath": "write health_check_path",
    "maxconnections maxconn maxconcurrency workerconnections": "write max_concurrent_per_worker",
    "backlog queue queuesize": "write max_queue",
    "workers threads": "write concurrency for Envoy's threads, replicas for workers",
  },
});

function checkServer(server: Known<ServerConfig>, context: CheckContext): void {
  const given = ["start_port", "port_arg", "socket_arg"].filter((name) => context.has(name));
  if (given.length !== 1) {
    const got = given.join(" and ") || "none";
    context.problem(given.at(-1) ?? "", `expected exactly one of start_port, port_arg and socket_arg, got ${got}`);
  }
  const { algorithm, protocol, hashOn } = server;
  const isHashing = algorithm === "RING_HASH" || algorithm === "MAGLEV";
  if (isHashing && !context.has("hash_on")) context.problem("load_balancer_algorithm", `${algorithm} requires hash_on`);
  if (!isHashing && algorithm !== undefined && context.has("hash_on"))
    context.warning("hash_on", `has no effect with ${algorithm}; set load_balancer_algorithm to RING_HASH or MAGLEV`);
  if (protocol === "tcp" && context.has("hash_on") && hashOn !== "source_ip")
    context.problem("hash_on", "expected source_ip, because protocol tcp can hash nothing else");
}
