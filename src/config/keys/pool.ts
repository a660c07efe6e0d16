/** One item of `supervisor.workers`: a pool of identical workers. Its rules are in poolRules.ts. */
import { MAX_REPLICAS } from "../../core/spec.ts";
import { type Block, block, key, type Launched, section, type Values } from "../field.ts";
import { replicasHint } from "../hints.ts";
import { list, map } from "../kind.ts";
import {
  commandLine,
  duration,
  integer,
  integerOr,
  isZero,
  oneOf,
  path,
  signalName,
  templated,
  text,
  umask,
} from "../scalars.ts";
import { autoscale } from "./autoscale.ts";
import { limits } from "./limits.ts";
import { logs } from "./logs.ts";
import { metrics } from "./metrics.ts";
import { DEFAULT_OOM_SCORE_ADJ, oomScore } from "./oomScore.ts";
import { checkPool } from "./poolRules.ts";
import { probes } from "./probes.ts";
import { restart } from "./restart.ts";
import { rlimit, rlimitName } from "./rlimits.ts";
import { rolling } from "./rolling.ts";
import { server } from "./server.ts";
import { socket } from "./sockets.ts";

const POOL_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$/u;

const poolName = text({
  expected: "1 to 63 letters, digits, _ . or -, the first a letter, digit or _",
  pattern: POOL_NAME,
});

const poolReference = {
  label: "pool name",
  check: (name: string) => (POOL_NAME.test(name) ? undefined : "expected the name of a pool"),
};

const variableName = {
  label: "name",
  check: (name: string) => (/^[^=\u0000]+$/u.test(name) ? undefined : 'expected a name without "=" and zero bytes'),
};

const keys = {
  name: key("name", poolName, {
    // It identifies the pool: another name is another pool.
    change: [],
    required: true,
    since: "original",
    doc: "Unique name of the pool; workers are `<name>-0`, `<name>-1` and so on. A pool with another name is another pool.",
  }),
  type: key("type", oneOf(["service", "oneshot"]), {
    change: "refused",
    default: "service",
    doc: "`service`: workers run until they are stopped. `oneshot`: each replica runs once to completion ([operation.md](operation.md#start-order)).",
  }),
  dependsOn: key("depends_on", map(oneOf(["started", "ready", "completed"]), poolReference), {
    change: "policy",
    default: {},
    doc: "Pools that this pool waits for before its first worker starts, each with what must be true of it: `started`, `ready` (`desired_healthy_percentage` of its replicas) or `completed` (all replicas of a `oneshot` pool). At a shutdown, this pool stops before them.",
  }),
  replicas: key("replicas", integerOr("auto", 1, MAX_REPLICAS, replicasHint), {
    change: "policy",
    default: 1,
    since: "original",
    doc: `Number of workers, at most ${MAX_REPLICAS}; \`auto\` is one for each CPU that the cgroup and the affinity mask allow.`,
  }),
  autoscale: key("autoscale", autoscale, {
    change: "policy",
    doc: "Scales the pool between `min` and `max` so that the load per worker meets the target; `replicas` is the initial number.",
  }),
  exec: key("exec", text({ isPath: true }), {
    change: "launch",
    since: "original",
    unset: "required without `command`",
    doc: "Executable: a path, or a name that is looked up on PATH.",
  }),
  command: key("command", commandLine, {
    change: "launch",
    doc: "The program and its arguments in one line, instead of `exec` and `args`: words in the quoting rules of the shell, with the same templates as `args`. No shell runs, so `|`, `>`, `&`, `;`, `*` and `$NAME` must be quoted; the value of a variable is not split.",
  }),
  args: key("args", list(templated, { max: 100_000 }), {
    change: "launch",
    default: [],
    since: "original",
    doc: "Arguments, exactly as written; numbers need no quotes. `{{.Port}}`, `{{.Socket}}`, `{{.WorkerID}}`, `{{.Pool}}`, `{{.Slot}}` and `{{.Fd}}` are replaced.",
  }),
  env: key("env", map(templated, variableName), {
    change: "launch",
    default: {},
    secret: true,
    doc: "Environment variables in addition to those of the controller, with the same templates as `args`. Values are never shown.",
  }),
  envFile: key("env_file", path, {
    change: "launch",
    doc: "File with `NAME=value` lines in the dialect of docker compose ([operation.md](operation.md#env_file)); `env` takes precedence.",
  }),
  cwd: key("cwd", path, { change: "launch", unset: "the controller's", doc: "Working directory." }),
  user: key("user", text(), {
    change: "launch",
    unset: "the controller's",
    doc: "Name or number of the user that workers run as.",
  }),
  group: key("group", text(), {
    change: "launch",
    unset: "the user's",
    doc: "Name or number of the group that workers run as.",
  }),
  umask: key("umask", umask, {
    change: "launch",
    unset: "the controller's",
    doc: "File mode creation mask, in octal digits.",
  }),
  nice: key("nice", integer(-20, 19), {
    change: "launch",
    unset: "the controller's",
    doc: "Scheduling priority; a higher number yields more.",
  }),
  oomScoreAdj: key("oom_score_adj", oomScore, {
    change: "launch",
    default: DEFAULT_OOM_SCORE_ADJ,
    doc: "How likely the kernel is to kill a worker when memory runs out; a higher number is likelier. A quoted number with a sign is added to the controller's own value. The default makes the kernel kill workers before the controller and Envoy.",
  }),
  rlimits: key("rlimits", map(rlimit, rlimitName), {
    change: "launch",
    default: {},
    doc: "Resource limits by their name in setrlimit(2) without RLIMIT_, such as `nofile`. A single value is the soft limit; the hard limit stays as it is.",
  }),
  startupWaitMs: key("startup_wait_time", duration(), {
    change: "policy",
    default: 0,
    since: "original",
    doc: "Pause before each worker's start, so that they do not all boot at once.",
  }),
  stopSignal: key("stop_signal", signalName, {
    change: "policy",
    default: "SIGTERM",
    doc: "Stop signal of a worker.",
  }),
  stopSignalTarget: key("stop_signal_target", oneOf(["group", "leader"]), {
    change: "policy",
    default: "group",
    doc: "Which processes receive the stop signal: the worker's whole process group, or only its first process, for servers that stop their own children (celery, gunicorn). SIGKILL always goes to the group.",
  }),
  signalTimeoutMs: key("signal_timeout", duration(), {
    change: "policy",
    default: 10_000,
    isUnset: isZero,
    since: "original",
    doc: "Grace period between the stop signal and SIGKILL for the whole process group. 0 is the same as unset.",
  }),
  maxRestarts: key("max_restarts", integer(Number.MIN_SAFE_INTEGER), {
    change: "policy",
    unset: "unlimited",
    isUnset: (limit) => limit < 0,
    since: "original",
    doc: "Restart limit: crashes, failed starts and failed startups within `restart_window`; negative is unlimited.",
  }),
  restartWindowMs: key("restart_window", duration(1), {
    change: "policy",
    default: 600_000,
    doc: "Time within which `max_restarts` counts.",
  }),
  restart: section("restart", restart, "How crashed workers restart."),
  desiredHealthyPercentage: key("desired_healthy_percentage", integer(0, 100), {
    change: "policy",
    default: 75,
    since: "original",
    doc: "Percentage of `replicas` that must be ready for the pool to be healthy.",
  }),
  limits: section("limits", limits, "Limits at which workers are replaced.", "original"),
  probes: key("probes", probes, {
    change: "launch",
    doc: "Probes of workers, with the semantics of Kubernetes.",
  }),
  rollout: section("rolling", rolling, "How far a rollout may exceed or fall below the number of replicas."),
  standby: key("standby", integer(0, MAX_REPLICAS), {
    change: "policy",
    default: 0,
    doc: "Number of standby workers: ready, but without requests until one is promoted because another worker fails; proxy mode.",
  }),
  sockets: key("sockets", list(socket, { max: 64 }), {
    change: "refused",
    default: [],
    doc: "Sockets that the controller binds and all workers of the pool inherit: the shared-socket mode.",
  }),
  logs: section("logs", logs, "Output of workers."),
  metrics: key("metrics", metrics, {
    change: "launch",
    doc: "Metrics that workers expose over HTTP. `/metrics/workers` merges them.",
  }),
  server: key("server", server, {
    change: "refused",
    since: "original",
    doc: "Proxy mode: Envoy in front of the pool.",
  }),
};

export interface PoolConfig extends Values<typeof keys> {}

/**
 * What a revision of a pool holds. Reading any other key from a revision does not compile, because the value may be
 * outdated; use the current configuration.
 */
export interface LaunchedPool extends Launched<typeof keys> {}

const COMMAND = "write command (a line in shell words), or exec (the program alone) and args (a list of its arguments)";
const PROBES = "write probes with startup, readiness or liveness";
const TRAFFIC = "write server.listener_port (proxy mode) or sockets (shared-socket mode)";
const OUTPUT = "lines go to the controller's stdout and stderr; write logs.file.path to have them in a file";

export const pool: Block<PoolConfig, typeof keys> = block(keys, {
  check: checkPool,
  oneRequired: ["exec", "command"],
  // supervisord, PM2, docker compose, Procfile runners, systemd, circus, gunicorn, uWSGI, Kubernetes.
  foreign: {
    "environment envs envvars envvariables environmentvariables vars": "write env, a map of names to values",
    "environmentfile envfiles envfrom dotenv": "write env_file",
    "workingdir workdir workingdirectory directory dir chdir cd": "write cwd",
    "instances numprocs numprocesses processes workers workerprocesses numworkers scale count concurrency":
      "write replicas",
    "cmd execstart script run start entrypoint program interpreter": COMMAND,
    "after requires wants needs dependson links": "write depends_on, a map of pools to started, ready or completed",
    "arguments argv execargs nodeargs interpreterargs options": "write args, a list",
    "stopsignal killsignal signal exitsignal": "write stop_signal",
    "stopwaitsecs stopgraceperiod gracefultimeout killtimeout timeoutstopsec stoptimeout graceperiod shutdowntimeout terminationgraceperiodseconds":
      "write signal_timeout, such as 10s",
    "autorestart restartpolicy respawn": "write restart.policy: always, on-failure or never; always is the default",
    "startretries maxretry maxretries startlimitburst": "write max_restarts and restart_window",
    "startlimitinterval startlimitintervalsec": "write restart_window",
    "restartsec restartdelay expbackoffrestartdelay": "write restart.backoff",
    "startsecs minuptime listentimeout": "write probes.startup, or rolling.min_ready in pools without probes",
    "exitcodes stopexitcodes successexitstatus restartpreventexitstatus": "write restart.expected_exit_codes",
    "maxmemoryrestart memlimit memorylimit memory memorymax memoryhigh reloadonrss": "write limits.memory",
    "maxrequests limitmaxrequests": "write limits.requests",
    "maxrequestsjitter lifespanjitter": "write limits.jitter_ratio",
    "lifespan maxage maxlifetime maxworkerlifetime runtimemaxsec cronrestart": "write limits.lifespan",
    "healthcheck healthchecks livenessprobe readinessprobe startupprobe liveness readiness startup waitready": PROBES,
    "port ports bind listen expose": TRAFFIC,
    "stdoutlogfile stderrlogfile redirectstderr stdoutstream stderrstream outfile errorfile logfile errorlog accesslog standardoutput standarderror loglevel logging log":
      OUTPUT,
    "uid runas": "write user",
    gid: "write group",
    "processname pool id": "write name",
    "ulimit ulimits minfds limitnofile": "write rlimits",
    oomscoreadjust: "write oom_score_adj",
    "priority niceness": "write nice for the scheduler, and depends_on for the order in which pools start",
    "warmupdelay startdelay": "write startup_wait_time",
    "autostart enabled": "every pool starts with the controller; omit this key, or remove the pool",
    "stopasgroup killasgroup killmode": "write stop_signal_target: group (the default) or leader",
    execmode: "write replicas; each worker is a separate process",
    "timeout requesttimeout": "write server.request_timeout",
    keepalive: "write server.worker_keepalive",
    "watch reload": "not supported; use `monoceros restart` or `monoceros reload`",
    "image build containername volumes networks deploy resources": "not supported; pools are programs, not containers",
    "copyenv copypath": "workers inherit the controller's environment",
  },
});
