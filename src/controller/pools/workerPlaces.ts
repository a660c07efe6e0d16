/** What each slot of a pool owns: its id, its port or socket, and its template values. */
import { rmSync } from "node:fs";
import { ControllerError } from "../../base/errors.ts";
import type { LaunchedPool } from "../../config/config.ts";
import { sharesMetricsPort, startPortOf } from "../../config/ports.ts";
import { programOf } from "../../config/program.ts";
import { renderTemplate, type TemplateValues } from "../../config/template.ts";
import { type Slot, workerId } from "../../core/identity.ts";
import type { UpstreamAddress } from "../../envoy/resources/settings.ts";
import { FIRST_INHERITED_FD } from "../../runtime/os/linux.ts";
import type { LaunchPlan } from "../../runtime/process/launch.ts";
import { exposeSocket } from "../../runtime/socket/exposedSocket.ts";
import { checkPort, checkSocketPath } from "../../runtime/socket/workerPorts.ts";
import type { EnvoyProgram } from "../preflight.ts";
import { type RuntimeDirectory, requirePassable } from "./runtimeDirectory.ts";

/** Maximum length of a Unix socket path in bytes (sockaddr_un in unix(7), without the terminator). */
const MAX_SOCKET_PATH_BYTES = 107;

/** Additional links to the sockets, for an Envoy that runs as another user than the workers. */
interface Exposure {
  readonly directory: string;
  /** The workers' user. */
  readonly owner: number;
  /** Envoy's group. */
  readonly group: number;
}

export class WorkerPlaces {
  readonly #pool: LaunchedPool;
  /** Directory of the pool's sockets; undefined if workers have ports or no address. */
  readonly #socketDirectory: string | undefined;
  /** Directory of the sockets on which workers report about themselves; undefined if they have none. */
  readonly #reportDirectory: string | undefined;
  /** undefined if Envoy connects to where workers listen. */
  readonly #exposure: Exposure | undefined;
  /** Where prometheus_client keeps a file for each process and kind of metric; undefined unless metrics.multiproc is set. */
  readonly multiprocDirectory: string | undefined;

  /** @throws ControllerError CONFIG_INVALID if the paths of sockets would be too long, RUNTIME_DIR_UNUSABLE */
  constructor(
    pool: LaunchedPool,
    plan: LaunchPlan,
    runtime: () => RuntimeDirectory,
    envoy?: Pick<EnvoyProgram, "credentials" | "mayLink">,
  ) {
    this.#pool = pool;
    if (pool.metrics?.multiproc === true) {
      // It starts empty, because each controller has its own runtime directory.
      this.multiprocDirectory = runtime().directory([pool.name, "metrics"], { mode: 0o700, owner: plan.credentials });
    }
    if (reportsBySocket(pool)) {
      this.#reportDirectory = runtime().directory([pool.name, "r"]);
      if (plan.credentials !== undefined)
        requirePassable(this.#reportDirectory, plan.credentials, `pool "${pool.name}"`);
      requireShortPath(pool.name, this.reportPath("n99999.999999"));
    }
    if (pool.server?.socketArg === undefined && pool.server?.socketEnv === undefined) return;
    const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
    const workers = plan.credentials ?? own;
    // If a reload changed the user, ownership may also return to the controller's user.
    const isShared = plan.credentials !== undefined || envoy?.mayLink === true;
    this.#socketDirectory = runtime().directory([pool.name, "w"], isShared ? { owner: workers } : {});
    if (plan.credentials !== undefined) requirePassable(this.#socketDirectory, plan.credentials, `pool "${pool.name}"`);
    const proxy = envoy?.credentials ?? own;
    if (envoy?.mayLink === true && proxy.uid !== workers.uid) {
      const directory = runtime().directory([pool.name, "s"], {
        mode: 0o710,
        owner: { uid: own.uid, gid: proxy.gid },
      });
      this.#exposure = { directory, owner: workers.uid, group: proxy.gid };
    }
    requireShortPath(pool.name, this.#socketPath(this.#socketDirectory, 99_999));
  }

  /** Where a worker reports about itself; `name` is unique in the pool. */
  reportPath(name: string): string {
    if (this.#reportDirectory === undefined) throw new RangeError("the workers of this pool do not report by a socket");
    return `${this.#reportDirectory}/${name}`;
  }

  /** Where the worker of a slot listens; undefined if the controller does not determine it. */
  addressOf(slot: Slot): UpstreamAddress | undefined {
    const startPort = startPortOf(this.#pool);
    if (startPort !== undefined) return { port: startPort + slot };
    return this.#socketDirectory === undefined ? undefined : { path: this.#socketPath(this.#socketDirectory, slot) };
  }

  /** Where the proxy connects to the worker of a slot. */
  proxyAddressOf(slot: Slot): UpstreamAddress | undefined {
    if (this.#exposure === undefined) return this.addressOf(slot);
    return { path: this.#socketPath(this.#exposure.directory, slot) };
  }

  /**
   * Lets the proxy connect to the socket of a listening worker. Returns the reason if it may not, otherwise undefined.
   * Call it repeatedly: a worker may bind its socket again.
   */
  expose(slot: Slot): string | undefined {
    const [from, to] = [this.addressOf(slot), this.proxyAddressOf(slot)];
    if (this.#exposure === undefined || from === undefined || to === undefined) return undefined;
    if ("port" in from || "port" in to) return undefined;
    const { owner, group } = this.#exposure;
    return exposeSocket({ path: from.path, link: to.path, owner, group });
  }

  /** Where the worker of a slot exposes its metrics; undefined if it exposes none. */
  metricsAddressOf(slot: Slot): UpstreamAddress | undefined {
    const { metrics } = this.#pool;
    if (metrics === undefined) return undefined;
    if (metrics.port === undefined) return this.addressOf(slot);
    return { port: sharesMetricsPort(this.#pool) ? metrics.port : metrics.port + slot };
  }

  /** Template values for the worker of a slot. */
  valuesOf(slot: Slot): TemplateValues {
    const { name, sockets } = this.#pool;
    const address = this.addressOf(slot);
    return {
      WorkerID: workerId(name, slot),
      Pool: name,
      Slot: slot,
      Port: address !== undefined && "port" in address ? address.port : undefined,
      Socket: address !== undefined && "path" in address ? address.path : undefined,
      Fd: sockets.length > 0 ? FIRST_INHERITED_FD : undefined,
    };
  }

  /** Arguments of the worker of a slot: where to listen, then the configured arguments. */
  argsOf(slot: Slot): string[] {
    const { server } = this.#pool;
    const { args } = programOf(this.#pool);
    const values = this.valuesOf(slot);
    const place = server?.portArg ?? server?.socketArg;
    const first = place === undefined ? [] : place.name === undefined ? [] : [place.name];
    if (place !== undefined) first.push(renderTemplate(place.valueTemplate, values));
    return [...first, ...args.map((arg) => renderTemplate(arg, values))];
  }

  /** Variables that differ from slot to slot. */
  envOf(slot: Slot): Record<string, string> {
    const values = this.valuesOf(slot);
    const env = new Map<string, string>();
    if (values.Port !== undefined) env.set("PORT", String(values.Port));
    const socketEnv = this.#pool.server?.socketEnv;
    if (socketEnv !== undefined && values.Socket !== undefined) env.set(socketEnv, String(values.Socket));
    const metrics = this.metricsAddressOf(slot);
    if (metrics !== undefined && "port" in metrics) env.set("MONOCEROS_METRICS_PORT", String(metrics.port));
    if (this.multiprocDirectory !== undefined) env.set("PROMETHEUS_MULTIPROC_DIR", this.multiprocDirectory);
    for (const [key, value] of Object.entries(this.#pool.env)) env.set(key, renderTemplate(value, values));
    // fromEntries defines properties, so a variable named __proto__ is handled like any other.
    return Object.fromEntries(env);
  }

  /**
   * Checks before a spawn that no other process has the addresses of the slot. Removes a socket that a killed worker
   * left behind, because its successor could not bind. @throws ControllerError PORT_IN_USE, SOCKET_IN_USE
   */
  prepare(slot: Slot): void {
    const exposed = this.#exposure && this.#socketPath(this.#exposure.directory, slot);
    if (exposed !== undefined) rmSync(exposed, { force: true });
    for (const address of [this.addressOf(slot), this.#ownMetricsAddress(slot)]) {
      if (address === undefined) continue;
      if ("port" in address) checkPort(address.port);
      else {
        checkSocketPath(address.path);
        rmSync(address.path, { force: true });
      }
    }
  }

  #ownMetricsAddress(slot: Slot): UpstreamAddress | undefined {
    const isOwn = this.#pool.metrics?.port !== undefined && !sharesMetricsPort(this.#pool);
    return isOwn ? this.metricsAddressOf(slot) : undefined;
  }

  #socketPath(directory: string, slot: Slot): string {
    return `${directory}/${slot}.sock`;
  }
}

/** Whether workers report about themselves by sd_notify or Einhorn's protocol. */
function reportsBySocket({ probes }: LaunchedPool): boolean {
  const { readiness, liveness } = probes ?? {};
  return readiness?.sdNotify === true || readiness?.einhorn === true || liveness?.sdNotify === true;
}

/** @throws ControllerError CONFIG_INVALID */
function requireShortPath(pool: string, longest: string): void {
  if (Buffer.byteLength(longest) <= MAX_SOCKET_PATH_BYTES) return;
  throw new ControllerError(
    "CONFIG_INVALID",
    `Cannot place the sockets of pool "${pool}": ${longest} is longer than ${MAX_SOCKET_PATH_BYTES} bytes, set a shorter supervisor.runtime_dir`,
  );
}
