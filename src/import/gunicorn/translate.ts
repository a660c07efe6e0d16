/**
 * A gunicorn configuration as one pool. Each worker is a gunicorn with one worker of its own that goes on to read the
 * file; arguments override what the controller or Envoy takes over.
 */
import { formatDuration } from "../../base/units.ts";
import { Draft, type Imported, type Key, PoolDraft, type Source, SourceError } from "../draft.ts";
import { literal, plain } from "../text.ts";
import { type PythonValue, readAssignments } from "./literals.ts";
import { isSetting, KEPT, REFUSED } from "./settings.ts";

export interface GunicornOptions {
  /** Values that Python computed, by name; undefined if only the text is read. */
  readonly evaluated: Readonly<Record<string, PythonValue>> | undefined;
  /** The application, such as `app:app`; undefined if it is not known. */
  readonly app: string | undefined;
  /** Absolute path of the file. */
  readonly path: string;
}

interface Option {
  /** undefined if it is computed and was not evaluated. */
  readonly value: PythonValue | undefined;
  /** Whether it is no literal in the file. */
  readonly isComputed: boolean;
  readonly key: Key;
}

/** @throws SourceError if it sets nothing that gunicorn knows */
export function translateGunicorn(source: Source, options: GunicornOptions): Imported {
  const settings = readSettings(source, options.evaluated);
  if (settings.size === 0) throw new SourceError("it sets none of gunicorn's settings, such as bind or workers");
  const pool = new PoolDraft("web", `gunicorn with ${source.file}`);
  new SettingsReader(pool, settings, options).read();
  return { pools: [pool], general: new Draft() };
}

function readSettings({ text, file }: Source, evaluated: GunicornOptions["evaluated"]): Map<string, Option> {
  const assignments = new Map(readAssignments(text).map((each) => [each.name, each]));
  const settings = new Map<string, Option>();
  for (const name of new Set([...assignments.keys(), ...Object.keys(evaluated ?? {})])) {
    if (!isSetting(name)) continue;
    const assignment = assignments.get(name);
    // Within a condition, say.
    const indented = text.split("\n").findIndex((line) => new RegExp(`^\\s+${name}\\s*=`, "u").test(line)) + 1;
    const line = assignment?.line ?? indented;
    const value = evaluated === undefined ? assignment?.value : evaluated[name];
    settings.set(name, {
      value,
      isComputed: assignment?.value === undefined,
      key: { name, short: name, where: line === 0 ? file : `${file}:${line}` },
    });
  }
  return settings;
}

/** gunicorn's own defaults. */
const GRACEFUL_SECONDS = 30;
const KEEPALIVE_SECONDS = 2;
const DEFAULT_BIND = "127.0.0.1:8000";

/** Settings whose value stays in the file. */
const STAYS: ReadonlySet<string> = new Set([...KEPT].filter((name) => name !== "keepalive" && name !== "chdir"));

/** What gunicorn needs beyond graceful_timeout to stop its worker. */
const STOP_MARGIN_SECONDS = 5;

class SettingsReader {
  readonly #pool: PoolDraft;
  readonly #settings: Map<string, Option>;
  readonly #options: GunicornOptions;
  readonly #args: string[] = [];

  constructor(pool: PoolDraft, settings: Map<string, Option>, options: GunicornOptions) {
    this.#pool = pool;
    this.#settings = settings;
    this.#options = options;
    const computed = [...settings].filter(([name, { isComputed }]) => isComputed && !STAYS.has(name));
    const names = computed.filter(([, { value }]) => value !== undefined).map(([name]) => name);
    if (names.length > 0) pool.note(`the file computes ${names.join(", ")}; the values are those of this machine`);
    for (const [name, { value, key }] of computed) {
      if (value !== undefined) continue;
      pool.ignore(key, "its value is computed; import the file where python3 can execute it, or write the value here");
      settings.delete(name);
    }
  }

  read(): void {
    const pool = this.#pool;
    this.#args.push("--config", literal(this.#options.path), "--workers", "1", "--no-control-socket");
    pool.note("gunicorn before version 25.1 has no --no-control-socket; remove the argument there");
    this.#workers();
    this.#listeners();
    this.#stops();
    this.#identity();
    this.#take("preload_app", ({ value, key }) => {
      if (value !== true) return pool.imply(key);
      pool.ignore(
        key,
        "each worker loads the application itself and shares no memory; expect the memory of each worker times replicas",
      );
    });
    this.#take("control_socket_disable", ({ key }) => pool.imply(key));
    const kept: Key[] = [];
    for (const [name, { value, key }] of this.#settings) {
      const reason = REFUSED[name];
      if (reason === undefined) kept.push(key);
      else if (value === false || value === null) pool.imply(key);
      else pool.ignore(key, reason);
    }
    const app = this.#options.app;
    if (app !== undefined) this.#args.push(literal(app));
    else if (!this.#settings.has("wsgi_app")) {
      this.#args.push("app:app");
      pool.note(
        "app:app stands for your application, which was an argument of gunicorn; write it, or import with --app",
      );
    }
    pool.set("exec", "gunicorn");
    pool.set(
      "args",
      this.#args,
      [],
      kept.length === 0 ? undefined : `gunicorn still reads ${kept.map(({ short }) => short).join(", ")} from the file`,
    );
  }

  #take(name: string, use: (option: Option) => void): void {
    const option = this.#settings.get(name);
    if (option === undefined) return;
    this.#settings.delete(name);
    use(option);
  }

  #workers(): void {
    this.#take("workers", ({ value, key }) =>
      this.#pool.set("replicas", typeof value === "number" ? value : String(value), key),
    );
  }

  #listeners(): void {
    const pool = this.#pool;
    const keys: Key[] = [];
    let binds: string[] = [DEFAULT_BIND];
    this.#take("bind", ({ value, key }) => {
      keys.push(key);
      binds = Array.isArray(value) ? (value as PythonValue[]).map(String) : String(value).split(",");
    });
    const addresses = binds.map((bind) => addressOf(bind.trim()));
    const [only] = addresses;
    const remark = keys.length === 0 ? "gunicorn's default" : undefined;
    const [key] = keys;
    if (addresses.includes(undefined)) {
      if (key !== undefined)
        pool.ignore(key, "only addresses with a port and Unix sockets can be translated; write sockets or server");
    } else if (addresses.length === 1 && only !== undefined && !only.startsWith("/")) this.#proxy(only, keys, remark);
    else this.#sockets(addresses.map(String), keys, remark);
  }

  /** Shared sockets, as several addresses and Unix sockets need them. */
  #sockets(addresses: readonly string[], keys: readonly Key[], remark: string | undefined): void {
    const pool = this.#pool;
    const portOf = (address: string) => (address.startsWith("/") ? address : (address.split(":").at(-1) ?? ""));
    const first = addresses.filter(
      (each, index) => addresses.findIndex((other) => portOf(other) === portOf(each)) === index,
    );
    const [key] = keys;
    if (first.length < addresses.length && key !== undefined) {
      const rest = addresses.filter((address) => !first.includes(address)).join(", ");
      pool.ignore(key, `only one socket can have a port, so that ${rest} is left out`);
    }
    const sockets = first.map((listen, index) => ({
      name: `http${index === 0 ? "" : index + 1}`,
      listen: plain(listen),
    }));
    pool.set("sockets", sockets, keys, remark ?? "gunicorn finds them by LISTEN_FDS");
    for (const name of ["max_requests", "max_requests_jitter"])
      this.#take(name, ({ key: limit }) =>
        pool.ignore(
          limit,
          "limits.requests needs server; gunicorn itself still restarts its worker after so many requests",
        ),
      );
    for (const name of ["certfile", "keyfile"]) this.#take(name, ({ key: file }) => pool.imply(file));
  }

  /** Envoy listens where gunicorn did. */
  #proxy(address: string, keys: readonly Key[], remark: string | undefined): void {
    const pool = this.#pool;
    const [, host = "", port = ""] = /^\[?([^\]]*)\]?:(\d+)$/u.exec(address) ?? [];
    pool.set("server.listener_address", host === "" ? "0.0.0.0" : host, keys, remark);
    pool.set("server.listener_port", Number(port), keys, remark);
    pool.set("server.socket_arg", { name: "--bind", value_template: "unix:{{.Socket}}" });
    pool.note("Envoy listens in place of gunicorn, and each gunicorn on a Unix socket of its own");
    const keepalive = this.#settings.get("keepalive");
    const idle = typeof keepalive?.value === "number" ? keepalive.value : KEEPALIVE_SECONDS;
    if (keepalive !== undefined && idle > 0) {
      const shorter = idle > 1 ? (idle - 1) * 1000 : 500;
      pool.set("server.worker_keepalive", formatDuration(shorter), keepalive.key, "shorter than gunicorn's");
      this.#settings.delete("keepalive");
    }
    this.#requests();
    for (const [name, path] of [
      ["certfile", "cert"],
      ["keyfile", "key"],
    ] as const)
      this.#take(name, ({ value, key }) => {
        if (typeof value !== "string") return pool.imply(key);
        pool.set(`server.tls.${path}`, plain(value), key);
        this.#args.push(`--${name}`, "");
      });
  }

  #requests(): void {
    const pool = this.#pool;
    const jitter = this.#settings.get("max_requests_jitter");
    const spread = typeof jitter?.value === "number" ? jitter.value : 0;
    this.#take("max_requests", ({ value, key }) => {
      if (typeof value !== "number" || value <= 0) return pool.imply(key);
      this.#args.push("--max-requests", "0");
      pool.set(
        "limits.requests",
        value + Math.round(spread / 2),
        key,
        spread > 0 ? "the middle of the range with jitter" : undefined,
      );
      if (jitter === undefined || spread <= 0) return;
      const ratio = Number((spread / 2 / (value + spread / 2)).toFixed(3));
      pool.set("limits.jitter_ratio", ratio, jitter.key);
      this.#settings.delete("max_requests_jitter");
    });
    this.#take("max_requests_jitter", ({ key }) => pool.imply(key));
  }

  #stops(): void {
    const pool = this.#pool;
    let graceful = GRACEFUL_SECONDS;
    const keys: Key[] = [];
    this.#take("graceful_timeout", ({ value, key }) => {
      keys.push(key);
      graceful = Number(value);
    });
    pool.set(
      "signal_timeout",
      formatDuration((graceful + STOP_MARGIN_SECONDS) * 1000),
      keys,
      `${keys.length === 0 ? "gunicorn's default of 30 s" : "that time"} and ${STOP_MARGIN_SECONDS} s for gunicorn itself`,
    );
    pool.set("stop_signal_target", "leader", [], "gunicorn stops its own worker");
  }

  #identity(): void {
    const pool = this.#pool;
    for (const name of ["user", "group"])
      this.#take(name, ({ value, key }) =>
        value === null ? pool.imply(key) : pool.set(name, plain(String(value)), key),
      );
    this.#take("pidfile", ({ value, key }) => {
      if (typeof value !== "string") return pool.imply(key);
      this.#args.push("--pid", `${literal(value)}.{{.Slot}}`);
      pool.imply(key);
      pool.note("each gunicorn has a pid file of its own, with the number of its slot");
    });
    const chdir = this.#settings.get("chdir");
    if (typeof chdir?.value !== "string") return;
    pool.set("cwd", plain(chdir.value), chdir.key);
    this.#settings.delete("chdir");
  }
}

/** `host:port`, or the path of a Unix socket; undefined for anything else. */
function addressOf(bind: string): string | undefined {
  if (/^unix:/u.test(bind)) return bind.replace(/^unix:(?:\/\/)?/u, "");
  const address = bind.replace(/^tcp:\/\//u, "");
  if (/^[^\s:/]*:\d{1,5}$|^\[[\da-fA-F:.]+\]:\d{1,5}$/u.test(address)) return address;
  return /^[A-Za-z0-9.-]+$/u.test(address) ? `${address}:8000` : undefined;
}
