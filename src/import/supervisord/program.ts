/** One `[program:x]` or `[fcgi-program:x]` section as a pool. */
import { type Key, PoolDraft, poolName } from "../draft.ts";
import { setCommand } from "../shell.ts";
import { binarySize, boolean, plain, seconds, signal, splitWords } from "../text.ts";
import { type Expansion, expand, parseEnvironment } from "./expand.ts";
import type { Entry, Section } from "./ini.ts";

/** What a program takes from other sections. */
export interface ProgramContext {
  /** Absolute directory of the file, `%(here)s`. */
  readonly here: string;
  readonly group: string | undefined;
  readonly others: readonly PoolDraft[];
}

/** Keys that concern the web interface, event listeners or supervisord's own names. */
const WITHOUT_EQUIVALENT: Readonly<Record<string, string>> = {
  process_name: "workers are named <pool>-<slot>",
  stdout_capture_maxbytes: "workers send no events to the controller",
  stderr_capture_maxbytes: "workers send no events to the controller",
  stdout_events_enabled: "use `monoceros logs -f` to follow the output",
  stderr_events_enabled: "use `monoceros logs -f` to follow the output",
  stdout_syslog: "workers write to the controller's stdout and stderr",
  stderr_syslog: "workers write to the controller's stdout and stderr",
  serverurl: "the CLI finds the control socket by itself",
  socket_owner: "a Unix socket belongs to the user of the controller",
  socket_mode: "the mode of a Unix socket cannot be set",
  depends_on: "supervisord itself does not know this key",
};

/** Reads one section, key by key; each key is set, implied, noted or ignored. */
export class ProgramReader {
  readonly pool: PoolDraft;
  /** The lowest starts first. */
  priority: { readonly value: number; readonly key: Key } | undefined;
  readonly #section: Section;
  readonly #expansion: Expansion;
  readonly #plain: Expansion;
  readonly #entries: Map<string, Entry>;

  constructor(section: Section, { here, group, others }: ProgramContext) {
    this.#section = section;
    const name = section.name.replace(/^[\w-]+:/u, "").trim();
    this.pool = new PoolDraft(poolName(name, others), `[${section.name}] at ${section.where}`);
    this.#entries = new Map(section.entries.map((entry) => [entry.key, entry]));
    for (const entry of section.entries)
      if (this.#entries.get(entry.key) !== entry) this.pool.ignore(this.#key(entry), "a later line sets the key again");
    const numprocs = this.#entries.get("numprocs")?.value ?? "1";
    const values = { here, program_name: name, group_name: group ?? name, numprocs };
    this.#expansion = { values, slot: "{{.Slot}}" };
    this.#plain = { values, slot: undefined };
  }

  read(): PoolDraft {
    this.#command();
    this.#processes();
    this.#environment();
    this.#restarts();
    this.#stops();
    this.#output();
    for (const entry of this.#entries.values())
      this.pool.ignore(this.#key(entry), WITHOUT_EQUIVALENT[entry.key] ?? "the importer does not know this key");
    return this.pool;
  }

  #key({ key, where }: Entry): Key {
    return { name: `${this.#section.name}.${key}`, short: key, where };
  }

  /** Calls `use` with the value of a key, if it is there, and counts the key as handled. */
  #take(name: string, use: (value: string, key: Key) => void): void {
    const entry = this.#entries.get(name);
    if (entry === undefined) return;
    this.#entries.delete(name);
    use(entry.value, this.#key(entry));
  }

  /** Expands a value; undefined, with the reason among the ignored keys, if an expression has no value. */
  #expand(value: string, key: Key, expansion = this.#plain): string | undefined {
    const { text, notes, unknown } = expand(value, expansion);
    for (const note of notes) this.pool.note(note);
    if (unknown.length === 0) return text;
    const reason = unknown.some((each) => each.includes("process_num"))
      ? "is possible only in args and env"
      : "has no value";
    this.pool.ignore(key, `${[...new Set(unknown)].join(", ")} ${reason}`);
    return undefined;
  }

  #command(): void {
    const { pool } = this;
    this.#take("command", (value, key) => {
      const words = splitWords(value);
      if (words?.[0] === undefined) return pool.ignore(key, "a quote is not closed, or the command is empty");
      const [program = "", ...args] = words;
      if (words.some((word) => /^%\(ENV_\w+\)s$/u.test(word)))
        pool.note("a word that is only a variable stays one word, even if its value contains spaces");
      const exec = this.#expand(program, key);
      const rest = args.map((arg) => this.#expand(arg, key, this.#expansion));
      if (exec === undefined || rest.includes(undefined)) return;
      setCommand(pool, exec, rest as string[], key);
    });
    if (this.#section.name.startsWith("fcgi-program:")) this.#socket();
  }

  /** supervisord passes the socket as stdin. */
  #socket(): void {
    const { pool } = this;
    this.#take("socket", (value, key) => {
      const listen = this.#expand(value.replace(/^(?:tcp|unix):\/\//u, ""), key);
      if (listen === undefined) return;
      const backlog = this.#entries.get("socket_backlog")?.value;
      const hasBacklog = backlog !== undefined && /^\d+$/u.test(backlog);
      pool.set("sockets", [{ name: "fcgi", listen, ...(hasBacklog ? { backlog: Number(backlog) } : {}) }], key);
      if (hasBacklog) this.#take("socket_backlog", (_, backlogKey) => pool.imply(backlogKey));
      const words = [pool.get("exec")?.value, ...((pool.get("args")?.value ?? []) as string[])].filter(
        (word): word is string => typeof word === "string",
      );
      const keys = [...(pool.get("exec")?.keys ?? []), key];
      pool.set("exec", "sh", keys);
      pool.set("args", ["-c", 'exec "$0" "$@" <&{{.Fd}}', ...words], keys, "the program expects the socket as stdin");
    });
  }

  #processes(): void {
    const { pool } = this;
    this.#take("numprocs", (value, key) => {
      const text = this.#expand(value, key);
      if (text !== undefined) pool.set("replicas", /^\d+$/u.test(text) ? Number(text) : text, key);
    });
    this.#take("numprocs_start", (value, key) =>
      value === "0" ? pool.imply(key) : pool.ignore(key, "slots are numbered from 0, so {{.Slot}} begins at 0"),
    );
    for (const [name, path] of [
      ["directory", "cwd"],
      ["user", "user"],
      ["umask", "umask"],
    ] as const)
      this.#take(name, (value, key) => pool.set(path, this.#expand(value, key), key));
    this.#take("autostart", (value, key) => {
      if (boolean(value) !== false) return pool.imply(key);
      pool.isDisabled = true;
      pool.ignore(key, "every pool starts with the controller; this one is printed as a comment");
    });
    this.#take("priority", (value, key) => {
      if (/^-?\d+$/u.test(value)) this.priority = { value: Number(value), key };
      else pool.ignore(key, "expected a number");
    });
  }

  #environment(): void {
    this.#take("environment", (value, key) => this.addEnvironment(value, key));
  }

  /** Adds variables, which do not replace those that are set. */
  addEnvironment(value: string, key: Key): void {
    const pairs = parseEnvironment(value);
    if (pairs === undefined) {
      this.pool.ignore(key, 'expected NAME="value", separated by commas');
      return;
    }
    for (const [name, text] of pairs) {
      const expanded = this.#expand(text, key, this.#expansion);
      if (expanded !== undefined && this.pool.get(`env.${name}`) === undefined) this.pool.setEnv(name, expanded, key);
    }
  }

  #restarts(): void {
    const { pool } = this;
    const codes = (this.#entries.get("exitcodes")?.value ?? "0").split(",").map((code) => code.trim());
    let policy = "unexpected";
    const keys: Key[] = [];
    const isShort = boolean(this.#entries.get("autorestart")?.value ?? "") === false;
    if (isShort && this.#entries.get("startsecs")?.value === "0") {
      this.#oneshot();
      return;
    }
    this.#take("autorestart", (value, key) => {
      policy = value.toLowerCase() === "unexpected" ? "unexpected" : boolean(value) === false ? "never" : "always";
      if (policy === "always") pool.imply(key);
      else keys.push(key);
    });
    const remark = keys.length === 0 ? "supervisord's default" : undefined;
    if (policy === "never")
      pool.note("a pool whose program has ended is not healthy; for a program that ends, write type: oneshot");
    if (policy !== "always") pool.set("restart.policy", policy === "never" ? "never" : "on-failure", keys, remark);
    this.#take("exitcodes", (_, key) => {
      if (policy !== "unexpected") return pool.ignore(key, "has no effect with this value of autorestart");
      const others = codes.filter((code) => code !== "0" && code !== "").map(Number);
      if (others.length > 0) pool.set("restart.expected_exit_codes", others, key);
      else pool.imply(key);
      if (!codes.includes("0")) pool.note("exit code 0 restarts no worker, because on-failure always includes it");
    });
    this.#take("startsecs", (value, key) => pool.set("rolling.min_ready", seconds(value) ?? plain(value), key));
    this.#take("startretries", (value, key) => {
      pool.set("max_restarts", /^\d+$/u.test(value) ? Number(value) : value, key, "within restart_window");
      pool.set("restart.on_exhausted", "give-up-worker", key);
    });
  }

  /** The idiom for a program that ends, such as a migration. */
  #oneshot(): void {
    const { pool } = this;
    this.#take("autorestart", (_, key) => pool.set("type", "oneshot", key, "with startsecs=0"));
    this.#take("startsecs", (_, key) => pool.imply(key));
    for (const name of ["exitcodes", "startretries"])
      this.#take(name, (value, key) => {
        if (value === "0") pool.imply(key);
        else pool.ignore(key, "the program runs once, and only exit code 0 is success");
      });
  }

  #stops(): void {
    const { pool } = this;
    this.#take("stopsignal", (value, key) => {
      const name = signal(value);
      if (name === "SIGTERM") pool.imply(key);
      else pool.set("stop_signal", name, key);
    });
    this.#take("stopwaitsecs", (value, key) => pool.set("signal_timeout", seconds(value) ?? plain(value), key));
    let isGroup = false;
    this.#take("stopasgroup", (value, key) => {
      isGroup = boolean(value) === true;
      if (isGroup) pool.imply(key);
      else pool.set("stop_signal_target", "leader", key);
    });
    if (!isGroup && pool.get("stop_signal_target") === undefined)
      pool.set("stop_signal_target", "leader", [], "supervisord's default, stopasgroup=false");
    this.#take("killasgroup", (value, key) =>
      boolean(value) === true || isGroup
        ? pool.imply(key)
        : pool.ignore(key, "SIGKILL always goes to the whole group, so that no process is left"),
    );
  }

  #output(): void {
    const { pool } = this;
    let isMerged = false;
    this.#take("redirect_stderr", (value, key) => {
      isMerged = boolean(value) === true;
      pool.imply(key);
    });
    let hasFile = false;
    this.#take("stdout_logfile", (value, key) => {
      const file = this.#logFile(value, key);
      hasFile = file !== undefined;
      pool.set("logs.file.path", file, key);
    });
    this.#rotation("stdout", hasFile);
    this.#take("stderr_logfile", (value, key) => {
      if (isMerged) return pool.imply(key);
      const file = this.#logFile(value, key);
      if (file === undefined) return;
      if (hasFile) pool.ignore(key, "logs.file holds stdout and stderr of the pool");
      else pool.ignore(key, "logs.file would hold stdout too; stderr goes to the controller's stderr");
    });
    this.#rotation("stderr", false);
  }

  /** The path of a log file; undefined if the output goes elsewhere. */
  #logFile(value: string, key: Key): string | undefined {
    const { pool } = this;
    if (/^(?:\/dev\/(?:std(?:out|err)|fd\/[12])|\/proc\/(?:1|self)\/fd\/[12]|auto)$/iu.test(value)) {
      pool.imply(key);
      return undefined;
    }
    if (/^(?:none|off|\/dev\/null|)$/iu.test(value)) {
      pool.ignore(key, "output is never discarded; it goes to the controller's stdout and stderr");
      return undefined;
    }
    if (value.toLowerCase() === "syslog") {
      pool.ignore(key, "output goes to the controller's stdout and stderr, not to syslog");
      return undefined;
    }
    const shared = value.replaceAll(/[-_.]?%\(process_num\)\d*[sd]/gu, "");
    if (shared !== value) pool.note("all workers of the pool write to one log file, with the worker's id in each line");
    return this.#expand(shared, key);
  }

  #rotation(stream: string, hasFile: boolean): void {
    const { pool } = this;
    this.#take(`${stream}_logfile_maxbytes`, (value, key) => {
      if (hasFile) {
        pool.set("logs.file.max_size", value === "0" ? "unlimited" : (binarySize(value) ?? plain(value)), key);
        return;
      }
      if (value === "0") pool.imply(key);
      else pool.ignore(key, `only a file in ${stream}_logfile is rotated`);
    });
    this.#take(`${stream}_logfile_backups`, (value, key) => {
      if (hasFile && /^\d+$/u.test(value)) pool.set("logs.file.keep", Number(value), key);
      else if (value === "0") pool.imply(key);
      else pool.ignore(key, `only a file in ${stream}_logfile is rotated`);
    });
    if (!hasFile) return;
    pool.set("logs.file.only", true, [], "as before, not also on stdout");
    if (pool.get("logs.file.max_size") === undefined)
      pool.set("logs.file.max_size", "50MiB", [], "supervisord's default");
    if (pool.get("logs.file.keep") === undefined) pool.set("logs.file.keep", 10, [], "supervisord's default");
  }
}
