/** One application of a PM2 file as a pool. */
import { formatDuration } from "../../base/units.ts";
import { type Key, type PoolDraft, startPortOf } from "../draft.ts";
import { setCommand, setShellCommand } from "../shell.ts";
import { binarySize, literal, plain, splitWords } from "../text.ts";
import { isObject, type Json, type JsonObject } from "./document.ts";
import { canonicalName, reasonFor } from "./names.ts";

export interface AppContext {
  /** Among the applications of the file. */
  readonly index: number;
  whereOf(key: string): string;
  readonly env: string | undefined;
}

/** The program that PM2 chooses by the extension of a script. */
const INTERPRETERS: Readonly<Record<string, string>> = {
  js: "node",
  mjs: "node",
  cjs: "node",
  ts: "bun",
  tsx: "bun",
  py: "python3",
  rb: "ruby",
  sh: "bash",
  php: "php",
  pl: "perl",
};

interface Option {
  readonly value: Json;
  readonly key: Key;
}

export class AppReader {
  readonly #pool: PoolDraft;
  readonly #context: AppContext;
  /** Keys that are not handled yet, by their name in the documentation of PM2. */
  readonly #options = new Map<string, Option>();
  #isCluster = false;
  #replicas: number | "auto" = 1;

  constructor(pool: PoolDraft, app: JsonObject, context: AppContext) {
    this.#pool = pool;
    this.#context = context;
    for (const [name, value] of Object.entries(app)) {
      const key = { name: `apps[${context.index}].${name}`, short: name, where: context.whereOf(name) };
      const canonical = canonicalName(name);
      if (this.#options.has(canonical)) pool.ignore(key, `another spelling of ${canonical} is set too`);
      else this.#options.set(canonical, { value, key });
    }
  }

  read(): void {
    this.#take("name", ({ key }) => this.#pool.imply(key));
    this.#instances();
    this.#command();
    this.#environment();
    this.#places();
    this.#restarts();
    this.#stops();
    this.#output();
    if (this.#isCluster && this.#replicas !== 1) this.#port();
    for (const [name, { key, value }] of this.#options) {
      const reason = reasonFor(name, value);
      if (reason === undefined) this.#pool.imply(key);
      else this.#pool.ignore(key, reason);
    }
  }

  #take(name: string, use: (option: Option) => void): void {
    const option = this.#options.get(name);
    if (option === undefined) return;
    this.#options.delete(name);
    use(option);
  }

  #instances(): void {
    const pool = this.#pool;
    this.#take("instances", ({ value, key }) => {
      const count = Number(value);
      this.#replicas = value === "max" || count <= 0 ? "auto" : count;
      pool.set("replicas", Number.isNaN(count) && value !== "max" ? String(value) : this.#replicas, key);
      if (count < 0)
        pool.note(`instances ${count} meant all CPUs but ${-count}; replicas auto uses all CPUs of the container`);
    });
    this.#take("exec_mode", ({ value, key }) => {
      this.#isCluster = /^cluster/u.test(String(value));
      pool.imply(key);
      if (!this.#isCluster) return;
      pool.note(
        "in PM2's cluster mode all instances share a port; here, server puts Envoy in front of the workers, sockets passes one listening socket to all of them, and without both a program must listen with SO_REUSEPORT (in Node.js: reusePort)",
      );
    });
  }

  #command(): void {
    const pool = this.#pool;
    const script = this.#options.get("script");
    this.#options.delete("script");
    if (script === undefined) return;
    const text = String(script.value).trim();
    const keys = [script.key];
    const words = this.#words("args", keys);
    const args = words.map(literal);
    const nodeArgs = this.#words("node_args", keys).map(literal);
    let interpreter = INTERPRETERS[/\.(\w+)$/u.exec(text)?.[1] ?? ""];
    this.#take("interpreter", ({ value, key }) => {
      keys.push(key);
      interpreter = value === "none" ? undefined : String(value);
    });
    if (/\s/u.test(text) && interpreter === undefined) {
      setShellCommand(pool, [text, ...words].join(" "), keys);
    } else if (interpreter === undefined) setCommand(pool, plain(text), args, keys);
    else setCommand(pool, plain(interpreter), [...nodeArgs, literal(text), ...args], keys);
    if (interpreter === undefined && nodeArgs.length > 0) {
      pool.setEnv("NODE_OPTIONS", nodeArgs.join(" "), keys, "node_args");
    }
    if (/^(?:npm|yarn|pnpm|npx)$/u.test(String(pool.get("exec")?.value)))
      pool.note(
        "write the program that the package manager starts as exec: it would only be one more process for each worker",
      );
  }

  /** A list of words, from a list or a text. */
  #words(name: string, keys: Key[]): string[] {
    let words: string[] = [];
    this.#take(name, ({ value, key }) => {
      keys.push(key);
      if (Array.isArray(value)) words = (value as Json[]).map(String);
      else words = splitWords(String(value ?? "")) ?? String(value).split(/\s+/u);
    });
    return words;
  }

  #environment(): void {
    const pool = this.#pool;
    const chosen = this.#context.env === undefined ? undefined : `env_${this.#context.env}`;
    for (const name of ["env", chosen])
      if (name !== undefined)
        this.#take(name, ({ value, key }) => {
          if (!isObject(value)) return pool.ignore(key, "expected an object");
          for (const [variable, text] of Object.entries(value))
            pool.setEnv(variable, literal(textOf(text)), [...(pool.get(`env.${variable}`)?.keys ?? []), key]);
        });
    let instanceVariable = "NODE_APP_INSTANCE";
    const keys: Key[] = [];
    this.#take("instance_var", ({ value, key }) => {
      instanceVariable = String(value);
      keys.push(key);
    });
    if (this.#replicas !== 1 || keys.length > 0)
      pool.setEnv(instanceVariable, "{{.Slot}}", keys, keys.length === 0 ? "as PM2 sets it" : undefined);
    this.#take("increment_var", ({ value, key }) => this.#increment(String(value), key));
  }

  /** PM2 adds the number of the instance; a template can only append it. */
  #increment(variable: string, key: Key): void {
    const pool = this.#pool;
    const earlier = pool.get(`env.${variable}`);
    const base = earlier?.value ?? "0";
    const isRound = /^\d*0$/u.test(String(base)) && this.#replicas !== "auto" && this.#replicas < 10;
    if (!isRound) {
      pool.ignore(
        key,
        `the number of a slot can only be appended to ${variable}, as {{.Slot}}, not be added; see server.start_port for ports`,
      );
      return;
    }
    pool.setEnv(variable, `${String(base).slice(0, -1)}{{.Slot}}`, [...(earlier?.keys ?? []), key]);
    if (variable === "PORT")
      pool.note("a replacement uses a slot above the instances for a moment, and so a port of its own");
  }

  #places(): void {
    const pool = this.#pool;
    for (const [name, path] of [
      ["cwd", "cwd"],
      ["uid", "user"],
      ["gid", "group"],
    ] as const)
      this.#take(name, ({ value, key }) => pool.set(path, plain(String(value)), key));
    this.#take("autostart", ({ value, key }) => {
      if (value !== false) return pool.imply(key);
      pool.isDisabled = true;
      pool.ignore(key, "every pool starts with the controller; this one is printed as a comment");
    });
    this.#take("max_memory_restart", ({ value, key }) =>
      pool.set("limits.memory", binarySize(String(value)) ?? plain(String(value)), key),
    );
  }

  #restarts(): void {
    const pool = this.#pool;
    this.#take("autorestart", ({ value, key }) => {
      if (value !== false) return pool.imply(key);
      pool.set("restart.policy", "never", key);
      pool.note("a pool whose program has ended is not healthy; for a program that ends, write type: oneshot");
    });
    this.#take("stop_exit_codes", ({ value, key }) => {
      const codes = (Array.isArray(value) ? (value as Json[]) : [value]).map(Number);
      if (pool.get("restart.policy") !== undefined) return pool.imply(key);
      pool.set("restart.policy", "on-failure", key);
      const others = codes.filter((code) => code !== 0);
      if (others.length > 0) pool.set("restart.expected_exit_codes", others, key);
      if (!codes.includes(0)) pool.note("exit code 0 restarts no worker, because on-failure always includes it");
    });
    this.#take("max_restarts", ({ value, key }) => {
      pool.set("max_restarts", Number(value), key, "within restart_window");
      pool.set("restart.on_exhausted", "give-up-worker", key);
    });
    this.#take("min_uptime", ({ value, key }) => pool.set("rolling.min_ready", milliseconds(value), key));
    this.#take("restart_delay", ({ value, key }) => {
      if (value === 0) return pool.imply(key);
      pool.set("restart.backoff.initial", milliseconds(value), key, "the first restart is immediate");
      pool.set("restart.backoff.max", milliseconds(value), key);
      pool.set("restart.backoff.factor", 1, key);
    });
    this.#take("exp_backoff_restart_delay", ({ value, key }) => {
      pool.set("restart.backoff.initial", milliseconds(value), key);
      pool.set("restart.backoff.max", "15s", key);
      pool.set("restart.backoff.factor", 1.5, key);
    });
  }

  #stops(): void {
    const pool = this.#pool;
    pool.set("stop_signal", "SIGINT", [], "PM2's default");
    this.#take("kill_timeout", ({ value, key }) => pool.set("signal_timeout", milliseconds(value), key));
    if (pool.get("signal_timeout") === undefined)
      pool.set("signal_timeout", "1.6s", [], "PM2's default, short for requests in flight");
    this.#take("treekill", ({ value, key }) => {
      if (value === false) pool.set("stop_signal_target", "leader", key);
      else pool.imply(key);
    });
  }

  #output(): void {
    const pool = this.#pool;
    let file: string | undefined;
    for (const name of ["log_file", "out_file", "error_file"])
      this.#take(name, ({ value, key }) => {
        if (typeof value !== "string" || /^(?:NULL|\/dev\/null)$/u.test(value))
          return pool.ignore(key, "output is never discarded; it goes to the controller's stdout and stderr");
        if (/^\/dev\/std(?:out|err)$/u.test(value) || value === file) return pool.imply(key);
        if (file !== undefined || name === "error_file")
          return pool.ignore(key, "logs.file holds stdout and stderr of the pool");
        file = value;
        pool.set("logs.file.path", plain(value), key, "stdout and stderr");
        pool.set("logs.file.max_size", "unlimited", [], "PM2 rotates no files");
        pool.set("logs.file.only", true, [], "as before, not also on stdout");
      });
  }

  /** In cluster mode with a known port, Envoy takes over that port. */
  #port(): void {
    const pool = this.#pool;
    const setting = pool.get("env.PORT");
    if (setting === undefined || !/^\d+$/u.test(String(setting.value))) return;
    pool.remove(setting.path);
    pool.set("server.listener_port", Number(setting.value), setting.keys, "PORT");
    pool.set("server.start_port", startPortOf(this.#context.index), [], "each worker finds its own port in PORT");
  }
}

function textOf(value: Json): string {
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "");
}

/** PM2 takes a number of milliseconds, or a text such as `10s`, `1m` or `1h`. */
function milliseconds(value: Json): string {
  const [, digits, unit = ""] = /^(\d+(?:\.\d+)?)(ms|[smh]?)$/u.exec(String(value)) ?? [];
  if (digits === undefined) return String(value);
  const factor = { s: 1000, m: 60_000, h: 3_600_000 }[unit] ?? 1;
  return formatDuration(Number(digits) * factor);
}
