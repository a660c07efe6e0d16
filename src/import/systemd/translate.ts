/** A systemd service, also a template such as `web@.service`, with its drop-ins. */
import { formatDuration } from "../../base/units.ts";
import { Draft, type Imported, type Key, PoolDraft, poolName, type Source, SourceError } from "../draft.ts";
import { signal } from "../text.ts";
import { readPrefixes, setUnitCommand, specifiers, type UnitNames } from "./command.ts";
import { reasonFor } from "./reasons.ts";
import { RESOURCE_KEYS, type ResourceKey } from "./resources.ts";
import { parseSpan, parseUnit, splitUnitWords, type UnitEntry } from "./unit.ts";

/** `name` is the file name of the unit, such as `web@.service`. @throws SourceError if it is no service unit */
export function translateSystemd(sources: readonly Source[], name: string): Imported {
  const entries = sources.flatMap(({ text, file }) => parseUnit(text, file));
  const commands = entries.filter(
    ({ section, key, value }) => section === "Service" && key === "ExecStart" && value !== "",
  );
  if (commands.length === 0) throw new SourceError("it has no ExecStart= in a section [Service]");
  const unit = /\.service$/u.test(name) ? name : `${name.replace(/\.[^.]*$/u, "")}.service`;
  return new UnitTranslator(entries, unit).translate();
}

type Handler = (value: string, key: Key) => void;

class UnitTranslator {
  readonly #entries: readonly UnitEntry[];
  readonly #unit: string;
  readonly #pool: PoolDraft;
  readonly #before: PoolDraft[] = [];
  readonly #variables: Record<string, string> = {};
  #names: UnitNames;
  #type = "simple";
  #restart: { readonly value: string; readonly keys: readonly Key[] } = { value: "no", keys: [] };
  #interval: string | undefined;

  constructor(entries: readonly UnitEntry[], unit: string) {
    this.#entries = entries;
    this.#unit = unit;
    const prefix = unit.replace(/(?:@[^@]*)?\.service$/u, "");
    const place = entries.find(({ section }) => section === "Service")?.where ?? "";
    this.#pool = new PoolDraft(poolName(prefix), `${unit} at ${place}`);
    this.#names = { unit, prefix, variables: {}, hasEnvironmentFile: false };
  }

  translate(): Imported {
    const pool = this.#pool;
    this.#type = this.#last("Type") ?? "simple";
    this.#interval = this.#last("StartLimitIntervalSec") ?? this.#last("StartLimitInterval");
    const early = this.#entries.filter(({ key }) => /^Environment(?:File)?$/u.test(key));
    const commands = this.#entries.filter(({ key }) => /^ExecStart(?:Pre)?$/u.test(key));
    for (const entry of early) this.#handle(entry);
    this.#names = {
      ...this.#names,
      variables: this.#variables,
      hasEnvironmentFile: pool.get("env_file") !== undefined,
    };
    for (const entry of this.#entries) if (!early.includes(entry) && !commands.includes(entry)) this.#handle(entry);
    for (const entry of commands) this.#handle(entry);
    this.#finishRestart();
    if (pool.get("signal_timeout") === undefined && this.#type !== "oneshot")
      pool.set("signal_timeout", "1m30s", [], "systemd's default");
    if (this.#unit.includes("@")) {
      pool.set("replicas", 1, [], "write the number of instances");
      pool.note("the instance %i became {{.Slot}}, which counts from 0; a restart may use one slot more for a moment");
    }
    const last = this.#before.at(-1);
    if (last !== undefined) pool.set("depends_on", { [last.name]: "completed" }, [], "ExecStartPre");
    return { pools: [...this.#before, pool], general: new Draft() };
  }

  #last(name: string): string | undefined {
    return this.#entries.findLast(({ key }) => key === name)?.value;
  }

  #handle(entry: UnitEntry): void {
    const key: Key = { name: `${entry.section}.${entry.key}`, short: entry.key, where: entry.where };
    const handler = this.#handlers[entry.key];
    const resource = RESOURCE_KEYS[entry.key];
    const isOurs = entry.section === "Service" || (entry.section === "Unit" && /^StartLimit/u.test(entry.key));
    if (!isOurs || (handler === undefined && resource === undefined)) {
      this.#pool.ignore(key, reasonFor(entry.section, entry.key));
      return;
    }
    if (resource !== undefined) this.#setResource(resource, entry.value, key);
    else handler?.(entry.value, key);
  }

  readonly #handlers: Readonly<Record<string, Handler>> = {
    ExecStart: (value, key) => this.#execStart(value, key),
    ExecStartPre: (value, key) => this.#execStartPre(value, key),
    Environment: (value, key) => this.#environment(value, key),
    EnvironmentFile: (value, key) => this.#environmentFile(value, key),
    PassEnvironment: (_, key) => this.#pool.imply(key),
    WorkingDirectory: (value, key) => this.#directory(value, key),
    User: (value, key) => this.#pool.set("user", this.#text(value), key),
    Group: (value, key) => this.#pool.set("group", this.#text(value), key),
    Type: (value, key) => this.#serviceType(value, key),
    KillSignal: (value, key) => {
      if (signal(value) === "SIGTERM") this.#pool.imply(key);
      else this.#pool.set("stop_signal", signal(value), key);
    },
    KillMode: (value, key) => this.#killMode(value, key),
    TimeoutStopSec: (value, key) => this.#pool.set("signal_timeout", this.#span(value, key), key),
    TimeoutSec: (value, key) => this.#pool.set("signal_timeout", this.#span(value, key), key),
    WatchdogSec: (value, key) => this.#watchdog(value, key),
    RuntimeMaxSec: (value, key) => this.#pool.set("limits.lifespan", this.#span(value, key), key),
    Restart: (value, key) => {
      this.#restart = { value, keys: [key] };
    },
    RestartSec: (value, key) => this.#backoff(value, key),
    RestartMaxDelaySec: (value, key) => this.#pool.set("restart.backoff.max", this.#span(value, key), key),
    SuccessExitStatus: (value, key) => this.#exitCodes(value, key),
    RestartPreventExitStatus: (value, key) => this.#exitCodes(value, key),
    StartLimitBurst: (value, key) => {
      if (this.#interval === "0")
        this.#pool.ignore(key, "StartLimitIntervalSec=0 means no limit, which is the default");
      else this.#pool.set("max_restarts", /^\d+$/u.test(value) ? Number(value) : value, key);
    },
    StartLimitIntervalSec: (value, key) => this.#window(value, key),
    StartLimitInterval: (value, key) => this.#window(value, key),
    StandardOutput: (value, key) => this.#output(value, key),
    StandardError: (value, key) => this.#output(value, key),
  };

  #text(value: string): string {
    return specifiers(value, this.#names, this.#pool);
  }

  #span(value: string, key: Key): string | undefined {
    const total = parseSpan(value);
    if (total !== undefined) return formatDuration(total * 1000);
    if (value === "infinity" && key.short.startsWith("Timeout")) return "24h";
    this.#pool.ignore(key, value === "infinity" ? "no limit is the default" : "expected a time span");
    return undefined;
  }

  #execStart(value: string, key: Key): void {
    if (value === "") {
      this.#pool.imply(key);
      return;
    }
    const command = readPrefixes(value);
    if (this.#pool.get("exec") !== undefined) {
      this.#pool.ignore(key, "a pool has one command; write another pool, or a oneshot pool, for it");
      return;
    }
    if (command.mayFail) this.#pool.note("the prefix - is ignored: a failure of the program counts as a crash");
    if (command.isPrivileged)
      this.#pool.note("the prefixes + and ! are ignored: the program runs as user, without further rights");
    if (!setUnitCommand(this.#pool, { ...command, mayFail: false }, key, this.#names))
      this.#pool.ignore(key, "a quote is not closed");
  }

  /** A preparation becomes a pool that runs once and that the next one waits for. */
  #execStartPre(value: string, key: Key): void {
    if (value === "") {
      this.#pool.imply(key);
      return;
    }
    const command = readPrefixes(value);
    const count = this.#before.length;
    const pool = new PoolDraft(
      poolName(`${this.#names.prefix}-pre${count === 0 ? "" : count + 1}`),
      `ExecStartPre at ${key.where}`,
    );
    pool.set("type", "oneshot", key);
    if (!setUnitCommand(pool, command, key, this.#names)) {
      this.#pool.ignore(key, "a quote is not closed");
      return;
    }
    const previous = this.#before.at(-1);
    if (previous !== undefined) pool.set("depends_on", { [previous.name]: "completed" }, key);
    for (const setting of this.#pool.settings)
      if (
        /^(?:env|env_file|cwd|umask)$/u.test(setting.path[0] ?? "") ||
        (!command.isPrivileged && /^(?:user|group)$/u.test(setting.path[0] ?? ""))
      )
        pool.set(setting.path, setting.value, setting.keys, setting.remark);
    pool.note("it runs once when the controller starts, not before each restart of the service as in systemd");
    this.#before.push(pool);
  }

  #environment(value: string, key: Key): void {
    if (value === "") {
      this.#pool.imply(key);
      return;
    }
    const words = splitUnitWords(value);
    if (words === undefined) {
      this.#pool.ignore(key, "a quote is not closed");
      return;
    }
    for (const word of words) {
      const [, name, text = ""] = /^([^=]+)=(.*)$/su.exec(word) ?? [];
      if (name === undefined) {
        this.#pool.ignore(key, `expected NAME=value, got ${JSON.stringify(word)}`);
        continue;
      }
      const expanded = specifiers(text, this.#names, this.#pool, "{{.Slot}}");
      this.#variables[name] = expanded;
      this.#pool.setEnv(name, expanded, key);
    }
  }

  #environmentFile(value: string, key: Key): void {
    const path = value.replace(/^-/u, "");
    if (path === "") {
      this.#pool.imply(key);
      return;
    }
    if (this.#pool.get("env_file") !== undefined) {
      this.#pool.ignore(key, "a pool has one env_file; merge the files");
      return;
    }
    this.#pool.set("env_file", this.#text(path), key);
    if (path !== value) this.#pool.note("the env_file must exist; in the unit it was optional");
    this.#pool.note("variables of env have precedence over env_file; in systemd the file has");
  }

  #directory(value: string, key: Key): void {
    const path = value.replace(/^-/u, "");
    if (path === "~") {
      this.#pool.ignore(key, "write the path of the home directory as cwd");
      return;
    }
    this.#pool.set("cwd", this.#text(path), key);
    if (path !== value) this.#pool.note("cwd must exist; in the unit it was optional");
  }

  #serviceType(value: string, key: Key): void {
    if (value === "oneshot") {
      this.#pool.set("type", "oneshot", key);
      return;
    }
    if (/^(?:simple|exec|idle)$/u.test(value)) {
      this.#pool.imply(key);
      return;
    }
    if (/^notify/u.test(value)) {
      this.#pool.set("probes.readiness.sd_notify", true, key);
      return;
    }
    this.#pool.ignore(
      key,
      value === "forking"
        ? "the program must stay in the foreground; remove its option that makes it a daemon"
        : "readiness over D-Bus has no equivalent; write a readiness probe",
    );
  }

  #killMode(value: string, key: Key): void {
    if (value === "control-group") {
      this.#pool.imply(key);
      return;
    }
    if (value === "mixed" || value === "process") this.#pool.set("stop_signal_target", "leader", key);
    if (value === "process")
      this.#pool.note("processes that the program leaves behind are killed, unlike with KillMode=process");
    if (!/^(?:mixed|process)$/u.test(value))
      this.#pool.ignore(key, "a worker is always stopped with all its processes");
  }

  #watchdog(value: string, key: Key): void {
    if (parseSpan(value) === 0) {
      this.#pool.imply(key);
      return;
    }
    this.#pool.set("probes.liveness.period", this.#span(value, key), key);
    if (this.#pool.get("probes.liveness.period") !== undefined) this.#pool.set("probes.liveness.sd_notify", true, key);
  }

  #backoff(value: string, key: Key): void {
    const delay = this.#span(value, key);
    if (delay === undefined) return;
    this.#pool.set("restart.backoff.initial", delay, key, "the first restart is immediate");
    if (this.#last("RestartMaxDelaySec") !== undefined) return;
    this.#pool.set("restart.backoff.max", delay, key);
    this.#pool.set("restart.backoff.factor", 1, key);
  }

  #exitCodes(value: string, key: Key): void {
    const words = value.split(/\s+/u).filter((word) => word !== "");
    const codes = words.filter((word) => /^\d+$/u.test(word)).map(Number);
    const earlier = this.#pool.get("restart.expected_exit_codes");
    if (codes.length > 0)
      this.#pool.set(
        "restart.expected_exit_codes",
        [...new Set([...((earlier?.value ?? []) as number[]), ...codes])],
        [...(earlier?.keys ?? []), key],
      );
    const others = words.filter((word) => !/^\d+$/u.test(word));
    if (others.length > 0) this.#pool.ignore(key, `only numbers can be translated, not ${others.join(", ")}`);
  }

  #window(value: string, key: Key): void {
    if (parseSpan(value) === 0) {
      this.#pool.imply(key);
      return;
    }
    this.#pool.set("restart_window", this.#span(value, key), key);
  }

  #finishRestart(): void {
    const { value, keys } = this.#restart;
    const [key] = keys;
    if (this.#type === "oneshot" && value === "no") {
      if (key !== undefined) this.#pool.imply(key);
      return;
    }
    const remark = keys.length === 0 ? "systemd's default" : undefined;
    if (value === "no") this.#pool.set("restart.policy", "never", keys, remark);
    else if (value === "always" && key !== undefined) this.#pool.imply(key);
    else if (value.startsWith("on-") && value !== "on-success") this.#pool.set("restart.policy", "on-failure", keys);
    else if (key !== undefined)
      this.#pool.ignore(key, "expected no, always or on-failure; the others have no equivalent");
  }

  #output(value: string, key: Key): void {
    const [, mode, path = ""] = /^(append|file|truncate):(.+)$/u.exec(value) ?? [];
    if (mode === undefined) {
      if (value === "null")
        this.#pool.ignore(key, "output is never discarded; it goes to the controller's stdout and stderr");
      else if (/^(?:inherit|journal|journal\+console|kmsg|syslog)?$/u.test(value)) this.#pool.imply(key);
      else this.#pool.ignore(key, "output goes to the controller's stdout and stderr");
      return;
    }
    const file = this.#pool.get("logs.file.path");
    if (file === undefined && key.short === "StandardOutput") this.#logTo(path, key);
    else if (file?.value === this.#text(path)) this.#pool.imply(key);
    else this.#pool.ignore(key, "logs.file holds stdout and stderr of the pool");
  }

  #logTo(path: string, key: Key): void {
    this.#pool.set("logs.file.path", this.#text(path), key);
    this.#pool.set("logs.file.max_size", "unlimited", [], "systemd rotates no files");
    this.#pool.set("logs.file.only", true, [], "as before, not also on stdout");
  }

  #setResource({ path, read }: ResourceKey, value: string, key: Key): void {
    const result = read(value);
    if (result === "implied") this.#pool.imply(key);
    else if (result === undefined) this.#pool.ignore(key, `the value ${JSON.stringify(value)} has no equivalent`);
    else this.#pool.set(path, result, key);
  }
}
