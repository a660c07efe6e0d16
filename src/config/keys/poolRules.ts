/**
 * Rules between the keys of a pool. Invalid or missing values are undefined here, because they have already been
 * reported. A rule checks only values that are defined.
 */
import type { CheckContext, Known } from "../field.ts";
import { type Template, templateNames } from "../template.ts";
import type { PoolConfig } from "./pool.ts";
import { networkKeys, type ProbeConfig } from "./probes.ts";

export function checkPool(pool: Known<PoolConfig>, context: CheckContext): void {
  checkIdentifier(pool, context);
  checkProgram(pool, context);
  if (pool.type === "oneshot") checkOneshot(pool, context);
  if (pool.metrics?.multiproc === true && pool.env?.["PROMETHEUS_MULTIPROC_DIR"] !== undefined)
    context.problem("env.PROMETHEUS_MULTIPROC_DIR", "metrics.multiproc sets this variable; remove one of them");
  checkSocketNames(pool, context);
  checkTemplates(pool, context);
  checkReplicas(pool, context);
  if (pool.probes?.readiness?.einhorn === true && pool.sockets?.length === 0)
    context.problem("probes.readiness.einhorn", "requires sockets, because the protocol passes them to the worker");
  if (context.has("server")) checkOwnLimits(pool, context);
  else checkWithoutServer(pool, context);
}

/** A pool has either `command`, or `exec` and perhaps `args`. */
function checkProgram({ args = [] }: Known<PoolConfig>, context: CheckContext): void {
  const hasCommand = context.has("command");
  if (!hasCommand && !context.has("exec")) context.problem("exec", "required, but missing; command is missing too");
  const conflicts = { exec: context.has("exec"), args: args.length > 0 };
  for (const [key, isGiven] of Object.entries(conflicts))
    if (hasCommand && isGiven) context.problem(key, "conflicts with command; remove one of them");
}

/** Keys whose values a oneshot pool does not use. */
const OF_SERVICES = ["server", "sockets", "probes", "autoscale", "standby", "desired_healthy_percentage"];

/** The workers of a oneshot pool are never ready, and none replaces another. */
function checkOneshot({ limits, maxRestarts }: Known<PoolConfig>, context: CheckContext): void {
  const reject = (key: string) =>
    context.problem(key, "has no effect in a oneshot pool, whose workers run once to completion; remove it");
  for (const key of OF_SERVICES) if (context.has(key)) reject(key);
  if (limits?.lifespanMs !== undefined) reject("limits.lifespan");
  if (limits?.memoryBytes !== undefined) reject("limits.memory");
  if (limits?.requests !== undefined) reject("limits.requests");
  if (context.has("max_restarts") && maxRestarts === undefined)
    context.problem("max_restarts", "expected 0 or more, because the runs of a oneshot pool need a limit");
}

/** Options and variables that make a server stop its own workers, with the key of `limits` to use instead. */
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

/** Workers behind a proxy reach limits of their own at the same time, so they would exit and boot together. */
function checkOwnLimits({ args, command, env, restart }: Known<PoolConfig>, context: CheckContext): void {
  if ((restart?.expectedExitCodes?.length ?? 0) > 0) return;
  const warn = (path: string, what: string, key: string) =>
    context.warning(
      path,
      `${what} makes all workers exit at about the same time, because the proxy balances requests evenly, and the exits count as crashes; remove it and write limits.${key}, which replaces one worker at a time and starts its successor first`,
    );
  const texts = [
    ...(args ?? []).map((arg, index) => [`args[${index}]`, arg] as const),
    ...(command ?? []).map((word) => ["command", word] as const),
    ...(env?.["GUNICORN_CMD_ARGS"] === undefined ? [] : [["env.GUNICORN_CMD_ARGS", env["GUNICORN_CMD_ARGS"]] as const]),
  ];
  for (const [index, [path, text]] of texts.entries()) {
    const [literal, next] = [literalOf(text), literalOf(texts[index + 1]?.[1])];
    for (const [pattern, key] of OWN_LIMITS) {
      const option = pattern.exec(literal)?.[1];
      // 0 switches a limit off.
      if (option === undefined || new RegExp(`${option}[= ]0(?:\\s|$)`, "u").test(`${literal} ${next}`)) continue;
      warn(path, option, key);
    }
  }
  for (const [name, key] of OWN_LIMIT_VARIABLES) if (env?.[name] !== undefined) warn(`env.${name}`, name, key);
}

function literalOf(text: Known<Template> | undefined): string {
  return (text ?? []).filter((part) => typeof part === "string").join("");
}

/** Libraries (such as prometheus_client) split file names that contain MULTIPROCESS_WORKER_ID at "_". */
function checkIdentifier({ name, env }: Known<PoolConfig>, context: CheckContext): void {
  if (name?.includes("_") !== true || env?.["MULTIPROCESS_WORKER_ID"] !== undefined) return;
  const better = name.replaceAll("_", "-");
  context.warning(
    "name",
    `MULTIPROCESS_WORKER_ID=${name}-0 contains "_", at which prometheus_client splits its file names, so that the gauges of all workers become one series; name the pool "${better}", or set MULTIPROCESS_WORKER_ID in env`,
  );
}

function checkSocketNames(pool: Known<PoolConfig>, context: CheckContext): void {
  const socketNames = new Set<string>();
  for (const [index, socket] of (pool.sockets ?? []).entries()) {
    if (socket?.name === undefined) continue;
    if (socketNames.has(socket.name))
      context.problem(
        `sockets[${index}].name`,
        `duplicate name "${socket.name}", another socket of the pool already has it`,
      );
    socketNames.add(socket.name);
  }
}

function checkTemplates(pool: Known<PoolConfig>, context: CheckContext): void {
  const texts: (readonly [string, Known<Template> | undefined])[] = [
    ...(pool.args ?? []).map((arg, index) => [`args[${index}]`, arg] as const),
    ...(pool.command ?? []).map((word) => ["command", word] as const),
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
        context.problem(path, "{{.Socket}} has no value without server.socket_arg or server.socket_env");
      }
      if (name === "Fd" && pool.sockets?.length === 0) context.problem(path, "{{.Fd}} has no value without sockets");
    }
  }
}

/** What workers behind a proxy listen on; undefined if unknown. */
function listenerKind({ server }: Known<PoolConfig>): "port" | "socket" | undefined {
  if (server?.startPort !== undefined || server?.portArg !== undefined) return "port";
  return server?.socketArg === undefined && server?.socketEnv === undefined ? undefined : "socket";
}

function checkReplicas({ replicas, autoscale }: Known<PoolConfig>, context: CheckContext): void {
  const { minReplicas: min = 1, maxReplicas: max = Number.POSITIVE_INFINITY } = autoscale ?? {};
  if (!context.has("replicas") || typeof replicas !== "number") return;
  if (min > max) return;
  if (replicas < min) context.problem("replicas", `expected at least autoscale.min, which is ${min}`);
  if (replicas > max) context.problem("replicas", `expected at most autoscale.max, which is ${max}`);
}

/** Rejects keys that require a proxy. */
function checkWithoutServer({ limits, metrics, standby, autoscale }: Known<PoolConfig>, context: CheckContext): void {
  if (standby !== undefined && standby > 0) {
    context.problem("standby", "requires server, because only a proxy can keep standby workers out of load balancing");
  }
  if (autoscale?.targetInFlight !== undefined) {
    context.problem("autoscale.in_flight", "requires server, because the proxy counts the requests");
  }
  if (context.has("metrics") && metrics !== undefined && metrics.port === undefined)
    context.problem("metrics", "expected a port, because without server a worker has none of its own");
  if (limits?.requests !== undefined) {
    context.problem("limits.requests", "requires server, because the proxy counts the requests");
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
  for (const kind of networkKeys) {
    if (probe?.[kind] === undefined) continue;
    const path = `probes.${purpose}.${kind}`;
    if (probe[kind].port === undefined)
      context.problem(path, "expected a port, because without server a worker has none of its own");
    else if (pool.replicas !== 1)
      context.warning(`${path}.port`, "all workers of the pool share this port, so any of them may answer the probe");
  }
}
