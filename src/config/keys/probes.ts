/** The block `probes` of a pool. */
import { type Block, block, key, type Values } from "../field.ts";
import { list, map } from "../kind.ts";
import { boolean, duration, integer, OWN_PORT, port, templated, text, urlPath } from "../scalars.ts";

const headerName = {
  label: "name",
  check: (name: string) =>
    /^[!#$%&'*+.^_`|~\dA-Za-z-]+$/u.test(name) ? undefined : "expected the name of a header, such as Host",
};

const headerValue = text({
  empty: true,
  expected: "the value of a header: visible ASCII characters, spaces and tabs",
  pattern: /^[\t\u0020-\u007e]*$/u,
});

const http = block({
  path: key("path", urlPath, {
    change: "launch",
    default: "/",
    doc: "Path to GET. Status 200 to 399 is success; redirects are not followed.",
  }),
  port: key("port", port(1), {
    change: "launch",
    unset: OWN_PORT,
    doc: "Port to probe, if it differs from the worker's.",
  }),
  headers: key("headers", map(headerValue, headerName), {
    change: "launch",
    default: {},
    secret: true,
    doc: "Request headers, added to `Host: localhost`, `User-Agent` and `Accept`. A header with one of these names replaces the default. Values are never shown.",
  }),
});

const tcp = block({
  port: key("port", port(1), {
    change: "launch",
    unset: OWN_PORT,
    doc: "Port to connect to, if it differs from the worker's.",
  }),
});

const grpc = block({
  port: key("port", port(1), {
    change: "launch",
    unset: OWN_PORT,
    doc: "Port to probe, if it differs from the worker's.",
  }),
  service: key("service", text(), {
    change: "launch",
    unset: "the server as a whole",
    doc: "Name of the service to check.",
  }),
});

/** The methods that connect to the worker's server, or to another port. */
const networkMethods = {
  http: key("http", http, { change: "launch", doc: "Probes by HTTP. Each probe has exactly one method." }),
  tcp: key("tcp", tcp, { change: "launch", doc: "Probes by a TCP connection; success if it opens." }),
  grpc: key("grpc", grpc, {
    change: "launch",
    doc: "Probes by the gRPC health protocol, without TLS; SERVING is success.",
  }),
};

export const networkKeys = Object.keys(networkMethods) as readonly (keyof typeof networkMethods)[];

const methods = {
  ...networkMethods,
  exec: key("exec", list(templated, { min: 1 }), {
    change: "launch",
    doc: "Runs a command with the worker's user, directory and environment, its process id in `MONOCEROS_WORKER_PID`; exit code 0 is success. Templates as in `args`.",
  }),
  notify: key("notify", boolean, {
    change: "launch",
    doc: "The worker reports that it is ready by writing a newline to the descriptor in `MONOCEROS_NOTIFY_FD`; readiness only.",
  }),
  sdNotify: key("sd_notify", boolean, {
    change: "launch",
    doc: "The worker reports through `NOTIFY_SOCKET`, as under systemd. Readiness: `READY=1`. Liveness: `WATCHDOG=1` at least once in each `period`, which the worker reads from `WATCHDOG_USEC`. Not for startup.",
  }),
  einhorn: key("einhorn", boolean, {
    change: "launch",
    doc: "The worker takes its `sockets` and reports that it is ready by the protocol of Einhorn; readiness only.",
  }),
};

/** Methods by which the worker reports that it is ready. */
const REPORTS = ["notify", "sdNotify", "einhorn"] as const;

const probeKeys = {
  ...methods,
  initialDelayMs: key("initial_delay", duration(), {
    change: "launch",
    default: 0,
    doc: "Delay between the worker's start and the first attempt.",
  }),
  periodMs: key("period", duration(10), {
    change: "launch",
    default: 10_000,
    doc: "Time between attempts. Jitter makes it up to a tenth longer for startup and up to a tenth shorter for the others.",
  }),
  timeoutMs: key("timeout", duration(1), { change: "launch", default: 1000, doc: "Time limit of an attempt." }),
  failureThreshold: key("failure_threshold", integer(1, 1_000_000), {
    change: "launch",
    default: 3,
    doc: "Consecutive failures after which the probe fails.",
  }),
  successThreshold: key("success_threshold", integer(1, 1_000_000), {
    change: "launch",
    default: 1,
    doc: "Consecutive successes after which the probe passes again; 1 for startup and liveness.",
  }),
};

/** Exactly one method is set. */
export interface ProbeConfig extends Values<typeof probeKeys> {}

const probe: Block<ProbeConfig, typeof probeKeys> = block(probeKeys, {
  check: (probe, context) => {
    const kinds = Object.values(methods).map(({ yaml }) => yaml);
    const isOff = new Set(REPORTS.filter((kind) => probe[kind] === false).map((kind) => methods[kind].yaml));
    const given = kinds.filter((kind) => context.has(kind) && !isOff.has(kind));
    if (given.length !== 1)
      context.problem("", `expected exactly one of ${kinds.join(", ")}, got ${given.join(", ") || "none"}`);
  },
  foreign: {
    "periodseconds interval": "write period, such as 10s",
    timeoutseconds: "write timeout, such as 1s",
    "initialdelayseconds startperiod delay": "write initial_delay, such as 5s",
    "failurethreshold retries": "write failure_threshold",
    successthreshold: "write success_threshold",
    "httpget path url": "write http: {path: …}",
    "tcpsocket port": "write tcp: {port: …}",
    "command cmd test": "write exec, a list of the program and its arguments",
  },
});

const keys = {
  startup: key("startup", probe, {
    change: "launch",
    doc: "Until it passes, the worker is starting and the other probes wait. If it fails, the worker is restarted.",
  }),
  readiness: key("readiness", probe, { change: "launch", doc: "While it fails, the worker receives no traffic." }),
  liveness: key("liveness", probe, {
    change: "launch",
    doc: "If it fails, the worker is replaced. If many fail together, only some are replaced at a time.",
  }),
};

export const probes = block(keys, {
  check: (probes, context) => {
    for (const name of ["startup", "liveness"] as const) {
      const { successThreshold = 1 } = probes[name] ?? {};
      for (const kind of REPORTS)
        if (probes[name]?.[kind] === true && !(kind === "sdNotify" && name === "liveness"))
          context.problem(`${name}.${methods[kind].yaml}`, `a ${name} probe does not support ${methods[kind].yaml}`);
      if (successThreshold !== 1)
        context.problem(`${name}.success_threshold`, `expected 1 for a ${name} probe, got ${successThreshold}`);
    }
  },
});
