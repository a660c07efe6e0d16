/**
 * Suggestions for keys of other process managers and for values in other notations. Pure text; each hint completes a
 * problem that is reported anyway.
 */

/** Hints by key of another program, in lower case without "-" and "_". */
export type ForeignKeys = ReadonlyMap<string, string>;

/** `, write env …` for a key of another program, or an empty string. */
export function foreignKeyHint(key: string, foreign: ForeignKeys): string {
  const hint = foreign.get(key.toLowerCase().replaceAll(/[-_ ]/gu, ""));
  return hint === undefined ? "" : `, ${hint}`;
}

/** Lines of "key, key …: hint". */
function table(lines: Readonly<Record<string, string>>): ForeignKeys {
  const keys = new Map<string, string>();
  for (const [names, hint] of Object.entries(lines)) for (const name of names.split(" ")) keys.set(name, hint);
  return keys;
}

const POOLS = "write supervisor.workers, a list of pools, each with name, exec and args";
const EXEC = "write exec (the program alone) and args (a list of its arguments)";
const PROBES = "write probes with startup, readiness or liveness";
const TRAFFIC = "write server.listener_port (proxy mode) or sockets (shared-socket mode)";
const OUTPUT = "output of workers goes to the controller's stdout and stderr; see logs";
const NO_CONTAINERS = "pools are programs, not containers";

/** supervisord, PM2, docker compose, Procfile runners, systemd, circus, gunicorn, uWSGI, Kubernetes. */
export const FOREIGN_POOL_KEYS: ForeignKeys = table({
  "environment envs envvars envvariables environmentvariables vars": "write env, a map of names to values",
  "environmentfile envfiles envfrom dotenv": "write env_file",
  "workingdir workdir workingdirectory directory dir chdir cd": "write cwd",
  "instances numprocs numprocesses processes workers workerprocesses numworkers scale count concurrency":
    "write replicas",
  "command cmd execstart script run start entrypoint program interpreter": EXEC,
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
  "priority niceness": "write nice for the scheduler; pools start in the order of the file",
  "warmupdelay startdelay": "write startup_wait_time",
  "autostart enabled": "every pool starts with the controller; leave it out or remove the pool",
  "stopasgroup killasgroup killmode": "write stop_signal_target: group (the default) or leader",
  execmode: "write replicas; each worker is a process of its own",
  "timeout requesttimeout": "write server.request_timeout",
  keepalive: "write server.worker_keepalive",
  "watch reload": "not supported; use `monoceros restart` or `monoceros reload`",
  "image build containername volumes networks deploy resources": NO_CONTAINERS,
  "copyenv copypath": "workers inherit the controller's environment",
});

export const FOREIGN_SUPERVISOR_KEYS: ForeignKeys = table({
  "pools pool programs program apps app services service processes watchers watcher": "write workers, a list of pools",
  "gracefultimeout stoptimeout gracetimeout terminationgraceperiod": "write shutdown_timeout",
  "prestop prestopsleep": "write pre_stop_delay",
  "directory rundir statedir": "write runtime_dir",
  "logfile loglevel logging log": "the controller's log goes to stderr; -d makes it readable",
});

export const FOREIGN_TOP_KEYS: ForeignKeys = table({
  "workers pools programs program apps services processes watchers watcher": POOLS,
  "name exec args replicas command cmd script": POOLS,
  "unixhttpserver inethttpserver supervisorctl": "write admin",
});

export const FOREIGN_ADMIN_KEYS: ForeignKeys = table({
  "host bind listen ip": "write address, and port apart from it",
  "token password secret": "write token_file, the path of a file with the token",
  "unixsocket socketpath path file": "write socket",
});

export const FOREIGN_SERVER_KEYS: ForeignKeys = table({
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
});

export const FOREIGN_PROBE_KEYS: ForeignKeys = table({
  "periodseconds interval": "write period, such as 10s",
  timeoutseconds: "write timeout, such as 1s",
  "initialdelayseconds startperiod delay": "write initial_delay, such as 5s",
  "failurethreshold retries": "write failure_threshold",
  successthreshold: "write success_threshold",
  "httpget path url": "write http: {path: …}",
  "tcpsocket port": "write tcp: {port: …}",
  "command cmd test": "write exec, a list of the program and its arguments",
});

export const FOREIGN_LIMITS_KEYS: ForeignKeys = table({
  "memorymax maxmemory rss": "write memory, or memory_hard to kill at once",
  maxrequests: "write requests",
  "maxage maxlifetime age": "write lifespan",
  "nofile nproc core": "write rlimits, a key of the pool",
  "cpu cpus": "not supported; write autoscale.cpu for a target, or limit the container",
});

/** What to write for a number without a unit, or with one that Go's durations do not have. */
export function durationHint(text: string): string | undefined {
  const [, number = "", unit = ""] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/u.exec(text) ?? [];
  if (number === "") return undefined;
  const value = Number(number);
  switch (unit.toLowerCase().replace(/s$/u, "")) {
    case "":
      return unit === "" || unit === "s" || unit === "S" ? `write ${number}s` : undefined;
    case "sec":
    case "second":
      return `write ${number}s`;
    case "m":
    case "min":
    case "minute":
      return `write ${number}m`;
    case "h":
    case "hour":
    case "hr":
      return `write ${number}h`;
    case "milli":
    case "msec":
    case "millisecond":
      return `write ${number}ms`;
    case "d":
    case "day":
      return `write ${Number((value * 24).toFixed(3))}h`;
    case "w":
    case "week":
      return `write ${Number((value * 168).toFixed(3))}h`;
    default:
      return undefined;
  }
}

/** What to write for a unit whose size differs between programs. */
export function sizeHint(text: string): string | undefined {
  const [, number, unit = ""] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/u.exec(text) ?? [];
  const letter = unit[0]?.toUpperCase() ?? "";
  if (number === undefined || !"KMGT".includes(letter) || letter === "") return undefined;
  if (/^[kmgt]ib?$/iu.test(unit)) return `write ${number}${letter}iB`;
  if (/^[kmgt]b?$/iu.test(unit))
    return `write ${number}${letter}iB for powers of 1024, ${number}${letter}B for powers of 1000`;
  return undefined;
}

/** What to write for other spellings of booleans, from YAML 1.1. */
export function booleanHint(text: string): string | undefined {
  if (/^(?:yes|y|on|1|true)$/iu.test(text)) return "write true";
  return /^(?:no|n|off|0|false)$/iu.test(text) ? "write false" : undefined;
}

/** What to write for PM2's "max" and similar values. */
export function replicasHint(text: string): string | undefined {
  return /^(?:max|cpus?|nproc)$/iu.test(text) ? 'write "auto" for one worker per CPU' : undefined;
}

/** Signal numbers that are the same on all architectures. */
const SIGNAL_NUMBERS: Readonly<Record<string, string>> = {
  "1": "SIGHUP",
  "2": "SIGINT",
  "3": "SIGQUIT",
  "6": "SIGABRT",
  "9": "SIGKILL",
  "14": "SIGALRM",
  "15": "SIGTERM",
};

export function signalHint(text: string): string | undefined {
  const name = Object.hasOwn(SIGNAL_NUMBERS, text) ? SIGNAL_NUMBERS[text] : undefined;
  return name === undefined ? undefined : `write ${name}`;
}

/** What to write instead of a command line where a list is expected. */
export function wordsHint(text: string): string | undefined {
  if (/["'\\$`|&;<>()*?[\]{}#~]/u.test(text)) return "write a list with an item for each word; no shell reads it";
  return `write [${text
    .trim()
    .split(/\s+/u)
    .map((each) => JSON.stringify(each))
    .join(", ")}]`;
}

/** What to write for a path that only a shell would expand. */
export function pathHint(text: string): string | undefined {
  if (text === "~" || text.startsWith("~/")) return `"~" is not replaced: write \${HOME}${text.slice(1)}`;
  return /^~[A-Za-z_][\w-]*(?:\/|$)/u.test(text)
    ? '"~" is not replaced: write the path of the home directory'
    : undefined;
}

/** Recognises the file format of another program; undefined if none matches. */
export function foreignFile(text: string): { readonly offset: number; readonly message: string } | undefined {
  const expected = "expected YAML with supervisor and workers";
  for (const [pattern, what] of FOREIGN_FILES) {
    const match = pattern.exec(text);
    if (match !== null) return { offset: match.index, message: `${what}; ${expected}` };
  }
  const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
  if (lines.length > 0 && lines.every((line) => PROCFILE_LINE.test(line)))
    return {
      offset: text.indexOf(lines[0] ?? ""),
      message: `this is a Procfile; ${expected}, one pool with name, exec and args for each line`,
    };
  return undefined;
}

/** Matches `web: gunicorn app` in a file without any of our keys. */
const PROCFILE_LINE = /^(?!(?:admin|supervisor):)[A-Za-z0-9_-]+:[^\S\n]+[A-Za-z_./$]\S*(?:[^\S\n].*)?$/u;

const FOREIGN_FILES: readonly (readonly [RegExp, string])[] = [
  [
    /^\[(?:program:[^\]\n]+|supervisord|supervisorctl|unix_http_server|group:[^\]\n]+)\][^\S\n]*$/mu,
    "this is a file of supervisord",
  ],
  [/^\[(?:Unit|Service|Install)\][^\S\n]*$/mu, "this is a unit of systemd"],
  [/^\[(?:circus|watcher:[^\]\n]+|socket:[^\]\n]+)\][^\S\n]*$/mu, "this is a file of circus"],
  [/^\[uwsgi\][^\S\n]*$/mu, "this is a file of uWSGI"],
  [/^(?:module\.exports\s*=|export default\b)/mu, "this is a file of PM2 in JavaScript"],
  [/^(?:worker_class|workers|bind)\s*=\s*(?:\d+|["'].*)$/mu, "this is a file of gunicorn"],
];
