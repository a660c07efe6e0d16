/**
 * The configuration as the program uses it: camelCase, units in the names, every default filled in. Produced only by
 * load.ts from the declaration in schema.ts; readonly throughout. It knows nothing of YAML.
 */
import type { Share } from "../core/spec.ts";
import type { Template } from "./template.ts";

export interface Config {
  readonly admin: AdminConfig;
  readonly supervisor: SupervisorConfig;
}

export interface AdminConfig {
  /** 0 lets the kernel choose. */
  readonly port: number;
  readonly address: string;
  readonly socket: string | undefined;
  readonly tokenFile: string | undefined;
}

export interface SupervisorConfig {
  readonly shutdownTimeoutMs: number;
  readonly preStopDelayMs: number;
  readonly runtimeDir: string | undefined;
  /** At least one, with unique names. */
  readonly pools: readonly PoolConfig[];
}

export interface PoolConfig {
  readonly name: string;
  /** With `autoscale`, the initial number, clamped to its bounds. */
  readonly replicas: number | "auto";
  readonly autoscale: AutoscaleConfig | undefined;
  readonly exec: string;
  readonly args: readonly Template[];
  readonly env: Readonly<Record<string, Template>>;
  readonly envFile: string | undefined;
  readonly cwd: string | undefined;
  /** Name or number. */
  readonly user: string | undefined;
  /** Name or number. */
  readonly group: string | undefined;
  readonly umask: number | undefined;
  readonly nice: number | undefined;
  readonly oomScoreAdj: OomScoreConfig;
  readonly rlimits: Readonly<Record<string, RlimitConfig>>;
  readonly startupWaitMs: number;
  /** Full name, such as "SIGTERM". */
  readonly stopSignal: string;
  readonly stopSignalTarget: "group" | "leader";
  readonly signalTimeoutMs: number;
  /** undefined means unlimited. */
  readonly maxRestarts: number | undefined;
  readonly restartWindowMs: number;
  readonly restart: RestartConfig;
  /** 0 … 100 */
  readonly desiredHealthyPercentage: number;
  readonly limits: LimitsConfig;
  readonly probes: ProbesConfig | undefined;
  readonly rolling: RollingConfig;
  readonly standby: number;
  readonly sockets: readonly SocketConfig[];
  readonly logs: LogsConfig;
  readonly metrics: MetricsConfig | undefined;
  readonly server: ServerConfig | undefined;
}

/** Exactly one of cpu and inFlight is set. */
export interface AutoscaleConfig {
  readonly min: number;
  readonly max: number;
  /** Target average CPU usage per worker, in cores. */
  readonly cpu: number | undefined;
  /** Target average number of requests in flight per worker. */
  readonly inFlight: number | undefined;
  readonly upAfterMs: number;
  readonly downAfterMs: number;
}

/** A value of oom_score_adj; if relative, it is added to the controller's own. */
export interface OomScoreConfig {
  readonly value: number;
  readonly isRelative: boolean;
}

/** Above the controller and Envoy, which look large because of their resident files: workers are killed first. */
export const DEFAULT_OOM_SCORE_ADJ: OomScoreConfig = { value: 500, isRelative: true };

/** A value of one resource limit. */
export type RlimitValue = number | "unlimited";

export interface RlimitConfig {
  readonly soft: RlimitValue;
  /** undefined leaves the hard limit as it is. */
  readonly hard: RlimitValue | undefined;
}

export interface BackoffConfig {
  readonly initialMs: number;
  readonly maxMs: number;
  readonly factor: number;
  /** 0 … 1 */
  readonly jitter: number;
  readonly resetAfterMs: number;
}

export interface RestartConfig {
  readonly policy: "always" | "on-failure" | "never";
  /** 0 … 255 */
  readonly expectedExitCodes: readonly number[];
  readonly backoff: BackoffConfig;
  readonly onExhausted: "shutdown" | "give-up-worker";
}

export interface LimitsConfig {
  readonly lifespanMs: number | undefined;
  /** 0 … 1 */
  readonly jitterRatio: number;
  readonly memoryBytes: number | undefined;
  readonly memoryHardBytes: number | undefined;
  readonly memoryKind: "rss" | "pss";
  readonly requests: number | undefined;
}

export interface HttpProbeConfig {
  readonly path: string;
  /** undefined means the worker's own port. */
  readonly port: number | undefined;
  /** In addition to the default headers, or overriding them. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface TcpProbeConfig {
  readonly port: number | undefined;
}

export interface GrpcProbeConfig {
  readonly port: number | undefined;
  readonly service: string | undefined;
}

/** Exactly one of http, tcp, grpc, exec and notify is set. */
export interface ProbeConfig {
  readonly http: HttpProbeConfig | undefined;
  readonly tcp: TcpProbeConfig | undefined;
  readonly grpc: GrpcProbeConfig | undefined;
  readonly exec: readonly Template[] | undefined;
  readonly notify: boolean | undefined;
  readonly initialDelayMs: number;
  readonly periodMs: number;
  readonly timeoutMs: number;
  readonly failureThreshold: number;
  readonly successThreshold: number;
}

export interface ProbesConfig {
  readonly startup: ProbeConfig | undefined;
  readonly readiness: ProbeConfig | undefined;
  readonly liveness: ProbeConfig | undefined;
}

export interface RollingConfig {
  readonly maxSurge: Share;
  readonly maxUnavailable: Share;
  /** Used only if no probe determines whether a worker is ready. */
  readonly minReadyMs: number;
}

export interface SocketConfig {
  readonly name: string;
  /** `address:port`, or an absolute path for a Unix socket. */
  readonly listen: string;
  readonly backlog: number;
}

export interface LogsConfig {
  readonly mode: "annotate" | "inherit";
  readonly maxLineBytes: number;
  /** Level of lines on stderr that state none. */
  readonly stderrLevel: "debug" | "info" | "warn" | "error" | "fatal";
}

export interface MetricsConfig {
  readonly path: string;
  /** Port of slot 0, counted up for the other slots; undefined means the worker's own port or socket. */
  readonly port: number | undefined;
  /** If undefined, it depends on `multiproc`: see metricsScope. */
  readonly scope: MetricsScope | undefined;
  /** Whether the controller keeps a directory for prometheus_client's multiprocess mode. */
  readonly multiproc: boolean;
}

/** What one worker's answer covers: itself, or all workers of its pool. */
export type MetricsScope = "worker" | "pool";

/** What a worker's answer covers, including the default. */
export function metricsScope({ scope, multiproc }: Pick<MetricsConfig, "scope" | "multiproc">): MetricsScope {
  return scope ?? (multiproc ? "pool" : "worker");
}

export interface PortArgConfig {
  /** If undefined, only the value is added. */
  readonly name: string | undefined;
  readonly startPort: number;
  readonly valueTemplate: Template;
}

export interface SocketArgConfig {
  readonly name: string;
  readonly valueTemplate: Template;
}

export interface TlsConfig {
  readonly cert: string;
  readonly key: string;
}

/** Exactly one of startPort, portArg and socketArg is set. */
export interface ServerConfig {
  /** The Envoy binary: a path, or a name that is looked up on PATH; undefined searches the default locations. */
  readonly exec: string | undefined;
  /** Name or number of the user that Envoy runs as; undefined leaves the choice to the controller. */
  readonly user: string | undefined;
  /** Port of slot 0, if workers do not receive their port as an argument. */
  readonly startPort: number | undefined;
  readonly portArg: PortArgConfig | undefined;
  readonly socketArg: SocketArgConfig | undefined;
  readonly signalTimeoutMs: number;
  readonly drainTimeoutMs: number;
  readonly healthCheckPath: string | undefined;
  readonly healthCheckHost: string;
  readonly loadBalancerAlgorithm: "ROUND_ROBIN" | "LEAST_REQUEST" | "RANDOM" | "RING_HASH" | "MAGLEV";
  readonly hashOn: string | undefined;
  readonly listenerPort: number;
  readonly listenerAddress: string;
  /** undefined means a Unix socket in the runtime directory. */
  readonly adminPort: number | undefined;
  readonly proxyConfigPath: string | undefined;
  readonly protocol: "http" | "grpc" | "tcp";
  /** 0 means no limit. */
  readonly requestTimeoutMs: number;
  readonly maxConcurrentPerWorker: number | "unlimited";
  readonly maxQueue: number;
  readonly workerKeepaliveMs: number;
  readonly maxHeaders: number;
  readonly maxHeaderBytes: number;
  readonly trustedHops: number;
  readonly concurrency: number;
  readonly accessLog: boolean;
  readonly tls: TlsConfig | undefined;
}
