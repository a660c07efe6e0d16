/**
 * Rules between keys, one function for each block of schema.ts. Invalid or missing parts are undefined here, because
 * they have already been reported. A rule checks only parts that are defined.
 */
import { MAX_REPLICAS } from "../core/spec.ts";
import type {
  AutoscaleConfig,
  BackoffConfig,
  Config,
  LimitsConfig,
  MetricsConfig,
  PoolConfig,
  ProbeConfig,
  ProbesConfig,
  RollingConfig,
  ServerConfig,
  SupervisorConfig,
} from "./config.ts";
import type { CheckContext, Known } from "./field.ts";
import { findPortProblems } from "./ports.ts";
import { type Template, templateNames } from "./template.ts";

export function checkBackoff({ initialMs, maxMs }: Known<BackoffConfig>, context: CheckContext): void {
  if (initialMs !== undefined && maxMs !== undefined && maxMs < initialMs) {
    context.problem("max", "expected at least as long as initial");
  }
}

export function checkAutoscale({ min, max }: Known<AutoscaleConfig>, context: CheckContext): void {
  if (context.has("cpu") === context.has("in_flight")) {
    const got = context.has("cpu") ? "both" : "none";
    context.problem(got === "both" ? "in_flight" : "", `expected either cpu or in_flight, got ${got}`);
  }
  if (min !== undefined && max !== undefined && max < min) context.problem("max", "expected at least min");
}

export function checkLimits({ memoryBytes, memoryHardBytes }: Known<LimitsConfig>, context: CheckContext): void {
  if (memoryBytes !== undefined && memoryHardBytes !== undefined && memoryHardBytes < memoryBytes) {
    context.problem("memory_hard", "expected at least as much as memory");
  }
}

export function checkMetrics({ scope, multiproc }: Known<MetricsConfig>, context: CheckContext): void {
  if (multiproc === true && scope === "worker")
    context.problem("scope", "expected pool: with multiproc every worker answers for the whole pool");
}

export function checkRolling({ maxSurge, maxUnavailable }: Known<RollingConfig>, context: CheckContext): void {
  const isNone = (share: typeof maxSurge): boolean => share === 0 || (typeof share === "object" && share.percent === 0);
  if (isNone(maxSurge) && isNone(maxUnavailable)) {
    context.problem("max_surge", "max_surge and max_unavailable are both 0, so no worker could ever be replaced");
  }
}

export function checkProbe(probe: Known<ProbeConfig>, context: CheckContext): void {
  const kinds = ["http", "tcp", "grpc", "exec", "notify"];
  const given = kinds.filter((kind) => context.has(kind) && !(kind === "notify" && probe.notify === false));
  if (given.length !== 1) {
    context.problem("", `expected exactly one of ${kinds.join(", ")}, got ${given.join(", ") || "none"}`);
  }
}

export function checkProbes(probes: Known<ProbesConfig>, context: CheckContext): void {
  for (const name of ["startup", "liveness"] as const) {
    const probe = probes[name];
    if (probe?.notify === true) context.problem(`${name}.notify`, "a worker can notify readiness only");
    if ((probe?.successThreshold ?? 1) !== 1) context.problem(`${name}.success_threshold`, "expected 1 here");
  }
}

export function checkServer(server: Known<ServerConfig>, context: CheckContext): void {
  const places = ["start_port", "port_arg", "socket_arg"].filter((key) => context.has(key));
  if (places.length !== 1) {
    const got = places.join(" and ") || "none";
    context.problem(places.at(-1) ?? "", `expected exactly one of start_port, port_arg and socket_arg, got ${got}`);
  }
  const algorithm = server.loadBalancerAlgorithm;
  if ((algorithm === "RING_HASH" || algorithm === "MAGLEV") && !context.has("hash_on")) {
    context.problem("load_balancer_algorithm", `${algorithm} needs hash_on`);
  }
  if (context.has("hash_on") && algorithm !== undefined && algorithm !== "RING_HASH" && algorithm !== "MAGLEV") {
    context.warning("hash_on", `${algorithm} does not hash, so this has no effect; set RING_HASH or MAGLEV`);
  }
  if (server.protocol === "tcp" && context.has("hash_on") && server.hashOn !== "source_ip") {
    context.problem("hash_on", "protocol tcp can hash source_ip only");
  }
}

export function checkPool(pool: Known<PoolConfig>, context: CheckContext): void {
  checkIdentifier(pool, context);
  if (pool.metrics?.multiproc === true && pool.env?.["PROMETHEUS_MULTIPROC_DIR"] !== undefined)
    context.problem("env.PROMETHEUS_MULTIPROC_DIR", "metrics.multiproc sets this variable; remove one of the two");
  checkSocketNames(pool, context);
  checkTemplates(pool, context);
  checkReplicas(pool, context);
  if (context.has("server")) checkOwnLimits(pool, context);
  else checkWithoutServer(pool, context);
}

/** Options and variables that make servers stop their own workers, and the key that replaces workers one by one. */
const OWN_LIMITS: readonly (readonly [RegExp, string])[] = [
  // uvicorn, gunicorn, hypercorn, uWSGI; Laravel Octane
  [/(?:^|\s)(--(?:limit-)?max-requests)(?=[=\s]|$)/u, "requests"],
  // granian
  [/(?:^|\s)(--workers-lifetime)(?=[=\s]|$)/u, "lifespan"],
];
const OWN_LIMIT_VARIABLES: ReadonlyMap<string, string> = new Map([
  ["UVICORN_LIMIT_MAX_REQUESTS", "requests"],
  ["GRANIAN_WORKERS_LIFETIME", "lifespan"],
]);

/** Workers that share the load reach their own limits at the same time, so they exit and boot together. */
function checkOwnLimits({ args, env, restart }: Known<PoolConfig>, context: CheckContext): void {
  if ((restart?.expectedExitCodes?.length ?? 0) > 0) return;
  const warn = (path: string, what: string, key: string) =>
    context.warning(
      path,
      `${what} ends all workers at about the same time, because the proxy gives them equal shares, and the exits count as crashes; remove it and write limits.${key}, which replaces one worker after another and starts the successor first`,
    );
  const texts = [
    ...(args ?? []).map((arg, index) => [`args[${index}]`, arg] as const),
    ...(env?.["GUNICORN_CMD_ARGS"] === undefined ? [] : [["env.GUNICORN_CMD_ARGS", env["GUNICORN_CMD_ARGS"]] as const]),
  ];
  for (const [path, text] of texts) {
    const literal = (text ?? []).filter((part) => typeof part === "string").join("");
    for (const [pattern, key] of OWN_LIMITS) {
      const option = pattern.exec(literal)?.[1];
      if (option !== undefined) warn(path, option, key);
    }
  }
  for (const [name, key] of OWN_LIMIT_VARIABLES) if (env?.[name] !== undefined) warn(`env.${name}`, name, key);
}

/** Libraries (such as prometheus_client) split file names that contain MULTIPROCESS_WORKER_ID at "_". */
function checkIdentifier({ name, env }: Known<PoolConfig>, context: CheckContext): void {
  if (name?.includes("_") !== true || env?.["MULTIPROCESS_WORKER_ID"] !== undefined) return;
  const better = name.replaceAll("_", "-");
  context.warning(
    "name",
    `MULTIPROCESS_WORKER_ID=${name}-0 contains "_", at which prometheus_client splits the names of its files: gauges of all workers become one series; name the pool "${better}", or set MULTIPROCESS_WORKER_ID in env`,
  );
}

function checkSocketNames(pool: Known<PoolConfig>, context: CheckContext): void {
  const socketNames = new Set<string>();
  for (const [index, socket] of (pool.sockets ?? []).entries()) {
    if (socket?.name === undefined) continue;
    if (socketNames.has(socket.name))
      context.problem(`sockets[${index}].name`, `another socket has the name "${socket.name}" already`);
    socketNames.add(socket.name);
  }
}

function checkTemplates(pool: Known<PoolConfig>, context: CheckContext): void {
  const texts: (readonly [string, Known<Template> | undefined])[] = [
    ...(pool.args ?? []).map((arg, index) => [`args[${index}]`, arg] as const),
    ...Object.entries(pool.env ?? {}).map(([key, value]) => [`env.${key}`, value] as const),
  ];
  for (const purpose of ["startup", "readiness", "liveness"] as const) {
    const probe = pool.probes?.[purpose];
    texts.push(...(probe?.exec ?? []).map((arg, index) => [`probes.${purpose}.exec[${index}]`, arg] as const));
    checkProbePort(purpose, probe, pool, context);
  }
  const listensOn = listenerKind(pool);
  for (const [path, text] of texts) {
    for (const name of templateNames(text ?? [])) {
      if (name === "Port" && (!context.has("server") || listensOn === "socket")) {
        context.problem(path, "{{.Port}} has no value without server.start_port or server.port_arg");
      }
      if (name === "Socket" && (!context.has("server") || listensOn === "port")) {
        context.problem(path, "{{.Socket}} has no value without server.socket_arg");
      }
      if (name === "Fd" && pool.sockets?.length === 0) context.problem(path, "{{.Fd}} has no value without sockets");
    }
  }
}

/** What workers behind a proxy listen on; undefined if unknown. */
function listenerKind({ server }: Known<PoolConfig>): "port" | "socket" | undefined {
  if (server?.startPort !== undefined || server?.portArg !== undefined) return "port";
  return server?.socketArg === undefined ? undefined : "socket";
}

function checkReplicas({ replicas, autoscale }: Known<PoolConfig>, context: CheckContext): void {
  const { min = 1, max = Number.POSITIVE_INFINITY } = autoscale ?? {};
  if (!context.has("replicas") || typeof replicas !== "number") return;
  if (replicas > MAX_REPLICAS) context.problem("replicas", `expected at most ${MAX_REPLICAS}, got ${replicas}`);
  if (min > max) return;
  if (replicas < min) context.problem("replicas", `expected at least autoscale.min, which is ${min}`);
  if (replicas > max) context.problem("replicas", `expected at most autoscale.max, which is ${max}`);
}

/** Rejects keys that need a proxy. */
function checkWithoutServer({ limits, metrics, standby, autoscale }: Known<PoolConfig>, context: CheckContext): void {
  if (standby !== undefined && standby > 0) {
    context.problem("standby", "only a proxy can keep workers out of the balance, so this needs server");
  }
  if (autoscale?.inFlight !== undefined) {
    context.problem("autoscale.in_flight", "requests are counted by the proxy, so this needs server");
  }
  if (context.has("metrics") && metrics !== undefined && metrics.port === undefined)
    context.problem("metrics", "expected a port: without server a worker has none of its own");
  if (limits?.requests !== undefined) {
    context.problem("limits.requests", "requests are counted by the proxy, so this needs server");
  }
}

/** Only workers behind a proxy have their own port; any other port is shared by all workers of the pool. */
function checkProbePort(
  purpose: string,
  probe: Known<ProbeConfig> | undefined,
  pool: Known<PoolConfig>,
  context: CheckContext,
): void {
  if (context.has("server")) return;
  for (const kind of ["http", "tcp", "grpc"] as const) {
    if (probe?.[kind] === undefined) continue;
    const path = `probes.${purpose}.${kind}`;
    if (probe[kind].port === undefined)
      context.problem(path, "expected a port: without server a worker has none of its own");
    else if (pool.replicas !== 1)
      context.warning(`${path}.port`, "all workers of the pool are asked at this port, so any of them may answer");
  }
}

/** Whether `name` is the id of a worker of `pool`. */
function isWorkerOf(name: string, pool: string): boolean {
  return name.startsWith(`${pool}-`) && /^(?:0|[1-9]\d*)$/u.test(name.slice(pool.length + 1));
}

export function checkSupervisor(supervisor: Known<SupervisorConfig>, context: CheckContext): void {
  const { shutdownTimeoutMs, preStopDelayMs, pools = [] } = supervisor;
  if (shutdownTimeoutMs !== undefined && preStopDelayMs !== undefined && preStopDelayMs >= shutdownTimeoutMs) {
    context.problem("pre_stop_delay", "expected shorter than shutdown_timeout, which includes it");
  }
  const indexByName = new Map<string, number>();
  const placeByPath = new Map<string, string>();
  for (const [index, pool] of pools.entries()) {
    for (const [at, socket] of (pool?.sockets ?? []).entries()) {
      if (!socket?.listen?.startsWith("/")) continue;
      const first = placeByPath.get(socket.listen);
      const place = `workers[${index}].sockets[${at}]`;
      if (first === undefined) placeByPath.set(socket.listen, place);
      else context.problem(`${place}.listen`, `${first} listens there already`);
    }
    if (pool?.name === undefined) continue;
    const first = indexByName.get(pool.name);
    if (first === undefined) indexByName.set(pool.name, index);
    else context.problem(`workers[${index}].name`, `workers[${first}] has the name "${pool.name}" already`);
    const named = pools.find((each) => each?.name !== undefined && isWorkerOf(pool.name ?? "", each.name));
    if (named !== undefined)
      context.warning(
        `workers[${index}].name`,
        `a worker of pool "${named.name}" has this name too: in commands it means this pool`,
      );
    const fronted = pools.findIndex((each) => each?.server !== undefined && `${each.name}-proxy` === pool.name);
    if (fronted !== -1) context.problem(`workers[${index}].name`, `the proxy of workers[${fronted}] has this name`);
    const stopMs = (preStopDelayMs ?? 0) + (pool.signalTimeoutMs ?? 0);
    if (shutdownTimeoutMs !== undefined && stopMs > shutdownTimeoutMs) {
      context.warning(
        `workers[${index}].signal_timeout`,
        "signal_timeout and pre_stop_delay together are longer than shutdown_timeout, so the shutdown may kill early",
      );
    }
  }
}

export function checkConfig(config: Known<Config>, context: CheckContext): void {
  // The number for `auto` depends on the machine; the check is repeated at run time with the actual number.
  const replicasOf = (pool: Known<PoolConfig>): number => (typeof pool.replicas === "number" ? pool.replicas : 1);
  for (const { path, message } of findPortProblems(config, replicasOf)) context.problem(path, message);
}
