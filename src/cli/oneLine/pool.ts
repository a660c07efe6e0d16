/** The configuration of a line whose mode is chosen. */
import { printable } from "../../base/printable.ts";
import { formatDuration } from "../../base/units.ts";
import type { Plain } from "../../config/kind.ts";
import { findFlags, findOptions } from "../../programs/options.ts";
import type { Program } from "../../programs/program.ts";
import type { Line } from "./plan.ts";
import { configured, literal, modeOf } from "./words.ts";

/** Spread of limits, so that workers are not all replaced at once. */
const JITTER = 0.1;

/**
 * Ports of the workers: a block of 100 for each client port, below the range of outgoing connections (32768 on Linux).
 * The modulus is prime, so that common ports (3000, 5000, 8000, 8080) have different blocks.
 */
const FIRST_PORT = 20_000;
const BLOCK = 100;
const BLOCKS = 113;

/** The variable with the path of a worker's socket, which the command need not use. */
const SOCKET_VARIABLE = "SOCKET";

export function poolDocument(line: Line): { readonly document: Plain; readonly explanation: string } {
  const { options, recognised } = line;
  const added = addedWords(line);
  const words = withAdded(line, added).map((word) => (line.traffic === "reuseport" ? onClientPort(word, line) : word));
  const [exec = "", ...args] = words.map(configured);
  const replicas = replicasOf(line);
  const document = {
    ...(options.adminPort === undefined ? {} : { admin: { port: options.adminPort } }),
    supervisor: {
      workers: [
        {
          name: options.name === undefined ? defaultName(line) : literal([options.name]),
          replicas,
          exec,
          args,
          ...envOf(line),
          ...stopOf(recognised?.program),
          ...limitsOf(line),
          ...trafficOf(line),
        },
      ],
    },
  };
  const changes = [
    line.stripped.removed.length === 0 ? "" : `; replaced ${line.stripped.removed.join(" ")}`,
    added.length === 0 ? "" : `; added ${added.join(" ")}`,
  ];
  const explanation = `${describe(line, replicas)}${changes.join("")}`;
  return { document, explanation: printable(explanation) };
}

/** The words that the program needs for the mode. */
function addedWords(line: Line): readonly string[] {
  const { recognised, stripped, placeholders } = line;
  if (recognised === undefined || recognised.program.serves !== "http") return [];
  const { program, at } = recognised;
  const missing = (program.always ?? []).filter((word) => findFlags(stripped.words, [word], at + 1).length === 0);
  if (modeOf(placeholders) !== undefined) return missing;
  return [...addressWords(line, program), ...(program.workers?.none ?? []), ...missing];
}

function withAdded({ recognised, stripped: { words } }: Line, added: readonly string[]): readonly string[] {
  const where = recognised?.program.placement === "first" ? recognised.at + 1 : words.length;
  return [...words.slice(0, where), ...added, ...words.slice(where)];
}

function addressWords(line: Line, program: Program): readonly string[] {
  const { traffic, recognised } = line;
  if (traffic === "proxy") return program.port ?? [];
  if (traffic === "reuseport")
    return (Array.isArray(program.reusePort) ? program.reusePort : []).map((word) =>
      word.replace("{host}", () => inUrl(line.host ?? "0.0.0.0")),
    );
  const descriptor = program.descriptor === "application" ? undefined : program.descriptor;
  const isHidden = recognised?.wrappers.some(({ replacesItself }) => !replacesItself) === true;
  return (isHidden && descriptor?.isByPid ? descriptor.wrapped : descriptor?.words) ?? [];
}

/** All workers open the port of the clients, so nothing differs from worker to worker. */
function onClientPort(word: string, { port }: Line): string {
  return word.replaceAll("{port}", String(port));
}

function inUrl(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function replicasOf({ options, stripped, traffic }: Line): number | "auto" {
  return options.replicas ?? stripped.workers ?? (traffic === "none" ? 1 : "auto");
}

function defaultName({ traffic }: Line): string {
  return traffic === "none" ? "worker" : "web";
}

function envOf({ options, recognised, traffic, port }: Line): { readonly env?: Plain } {
  const preset = Object.entries(recognised?.program.env ?? {});
  // In the other modes, the controller or its own environment sets PORT.
  const own = traffic === "reuseport" ? [["PORT", String(port)] as const] : [];
  const entries = [...own, ...preset, ...options.env].map(([name, value]) => [name, literal([value])] as const);
  return entries.length === 0 ? {} : { env: Object.fromEntries(entries) };
}

function stopOf(program: Program | undefined): Readonly<Record<string, Plain>> {
  const { stop, stopTarget, stopTimeout } = program ?? {};
  return {
    ...(stop === undefined ? {} : { stop_signal: stop.signal }),
    ...(stopTarget === undefined ? {} : { stop_signal_target: stopTarget }),
    ...(stopTimeout === undefined ? {} : { signal_timeout: stopTimeout }),
  };
}

function limitsOf({ options }: Line): { readonly limits?: Plain } {
  const { maxRequests, maxMemory, maxAge } = options;
  const limits = {
    ...(maxRequests === undefined ? {} : { requests: maxRequests }),
    ...(maxAge === undefined ? {} : { lifespan: maxAge }),
    ...(maxRequests === undefined && maxAge === undefined ? {} : { jitter_ratio: JITTER }),
    ...(maxMemory === undefined ? {} : { memory: maxMemory }),
  };
  return Object.keys(limits).length === 0 ? {} : { limits };
}

function trafficOf(line: Line): Readonly<Record<string, Plain>> {
  const { traffic, port, host, options, placeholders } = line;
  if (traffic === "socket") {
    const { descriptor } = line.recognised?.program ?? {};
    const reports = typeof descriptor === "object" && descriptor.protocol !== undefined && placeholders.size === 0;
    return {
      sockets: [{ name: "http", listen: `${literal([inUrl(host ?? "0.0.0.0")])}:${port}` }],
      ...(reports ? { probes: { readiness: { [descriptor.protocol]: true } } } : {}),
    };
  }
  if (traffic !== "proxy") return {};
  const keepAlive = keepAliveOf(line);
  const server = {
    listener_port: port,
    ...(host === undefined ? {} : { listener_address: literal([host]) }),
    ...(placeholders.has("socket") ? { socket_env: SOCKET_VARIABLE } : { start_port: startPortOf(port) }),
    load_balancer_algorithm: "LEAST_REQUEST",
    ...(options.health === undefined ? {} : { health_check_path: literal([options.health]) }),
    ...(keepAlive === undefined ? {} : { worker_keepalive: keepAlive }),
  };
  return { server };
}

/** Port of the first worker. */
export function startPortOf(clientPort: number): number {
  const start = FIRST_PORT + BLOCK * (clientPort % BLOCKS);
  const isInside = clientPort >= start && clientPort < start + BLOCK;
  return isInside ? start + BLOCK : start;
}

/** How long Envoy keeps idle connections: less than the program does. */
function keepAliveOf({ recognised, stripped }: Line): string | undefined {
  const program = recognised?.program;
  const { keepAlive } = program ?? {};
  const from = (recognised?.at ?? 0) + 1;
  const given = Number(findOptions(stripped.words, keepAlive?.options ?? [], from).at(-1)?.value);
  if (!(given > 0)) return program?.workerKeepAlive;
  const ms = given * (keepAlive?.isMs === true ? 1 : 1000);
  return formatDuration(Math.max(1, Math.floor(ms / 2)));
}

/** Which mode, why, and where clients connect. */
function describe(line: Line, replicas: number | "auto"): string {
  const { recognised, traffic, why, port, command, placeholders } = line;
  const name = recognised?.program.name ?? `${JSON.stringify(command[0])}, which is not a known program`;
  const workers = replicas === "auto" ? "one worker per CPU" : replicas === 1 ? "1 worker" : `${replicas} workers`;
  const modes = {
    proxy: "in proxy mode",
    socket: "in shared-socket mode",
    reuseport: "in SO_REUSEPORT mode",
    none: "without a port",
  };
  const clients = traffic === "none" ? "" : `; clients connect to port ${port}`;
  const convention = { proxy: "its own $PORT", reuseport: `port ${port} with SO_REUSEPORT` }[traffic as string];
  const isByConvention = placeholders.size === 0 && (recognised?.program.port ?? []).length === 0;
  const must = isByConvention && convention !== undefined ? `; each worker must listen on ${convention}` : "";
  return `${name}: ${workers} ${modes[traffic]}, ${why}${clients}${must}`;
}
