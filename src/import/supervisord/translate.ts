/** A supervisord configuration with the files that it includes. */
import { Draft, type Imported, type Key, type PoolDraft, type Source, SourceError } from "../draft.ts";
import { plain } from "../text.ts";
import { type Entry, parseIni, type Section } from "./ini.ts";
import { ProgramReader } from "./program.ts";

/** Patterns of the files that `[include]` names, relative to the directory of the file. @throws SourceError */
export function includedFiles({ text, file }: Source): string[] {
  return parseIni(text, file)
    .filter(({ name }) => name === "include")
    .flatMap(({ entries }) => entries.filter(({ key }) => key === "files"))
    .flatMap(({ value }) => value.replaceAll("%(here)s", ".").split(/\s+/u))
    .filter((pattern) => pattern !== "");
}

const SECTIONS: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/^unix_http_server$|^inet_http_server$/u, "the controller has its own control socket and API; see admin"],
  [/^supervisorctl$/u, "the CLI finds the control socket by itself"],
  [/^rpcinterface:/u, "the controller has an HTTP API instead of XML-RPC"],
  [
    /^eventlistener:/u,
    "there are no event listeners; for the end of everything when a program fails, see restart.on_exhausted; events are in `monoceros events` and the API",
  ],
];

/** Keys of `[supervisord]` with the reason why they have no equivalent. */
const SUPERVISORD: Readonly<Record<string, string>> = {
  logfile: "the controller logs to stderr",
  logfile_maxbytes: "the controller logs to stderr",
  logfile_backups: "the controller logs to stderr",
  loglevel: "the controller logs to stderr; -d makes the log readable and more detailed",
  pidfile: "the controller writes no pid file; it finds itself by the control socket",
  childlogdir: "workers write to the controller's stdout and stderr, or to logs.file",
  strip_ansi: "escape sequences stay as they are",
  nocleanup: "there are no temporary log files",
  identifier: "the controller has no name of its own",
  minprocs: "the controller computes the processes that it needs",
  user: "the controller runs as the user that starts it; set user for each pool",
  directory: "pools have their own cwd; the controller does not change its directory",
};

/** @throws SourceError if it is not a supervisord configuration */
export function translateSupervisord(sources: readonly Source[]): Imported {
  const sections = sources.flatMap((source) =>
    parseIni(source.text, source.file).map((section) => ({ section, here: source.directory })),
  );
  const groups = groupsOf(sections.map(({ section }) => section));
  const general = new Draft();
  const [main] = sources;
  if (sources.length === 1 && main !== undefined && includedFiles(main).length > 0)
    general.note("no file matches [include]; import on the machine that has the files");
  const readers: ProgramReader[] = [];
  const globals = sections.find(({ section }) => section.name === "supervisord")?.section;
  for (const { section, here } of sections) {
    if (!/^(?:fcgi-)?program:/u.test(section.name)) {
      readOther(section, general);
      continue;
    }
    const name = section.name.replace(/^[\w-]+:/u, "").trim();
    const others = readers.map(({ pool }) => pool);
    const reader = new ProgramReader(section, { here, group: groups.get(name)?.name, others });
    reader.read();
    inherit(reader, globals);
    reader.priority ??= groups.get(name)?.priority;
    readers.push(reader);
  }
  if (readers.length === 0)
    throw new SourceError("it has no section [program:…]; a supervisord configuration has one for each program");
  return { pools: inOrder(readers), general };
}

function keyOf(section: Section, { key, where }: Entry): Key {
  return { name: `${section.name}.${key}`, short: key, where };
}

/** Settings of `[supervisord]` that apply to every program. */
function inherit(reader: ProgramReader, globals: Section | undefined): void {
  for (const entry of globals?.entries ?? []) {
    const key = keyOf(globals ?? { name: "", where: "", entries: [] }, entry);
    const short = { ...key, short: `[supervisord] ${entry.key}` };
    if (entry.key === "environment") reader.addEnvironment(entry.value, short);
    if (entry.key === "umask" && reader.pool.get("umask") === undefined)
      reader.pool.set("umask", plain(entry.value), short);
    if (entry.key === "minfds" && /^\d+$/u.test(entry.value))
      reader.pool.set("rlimits.nofile", Number(entry.value), short);
  }
}

function readOther(section: Section, general: Draft): void {
  const reason = SECTIONS.find(([pattern]) => pattern.test(section.name))?.[1];
  for (const entry of section.entries) {
    const key = keyOf(section, entry);
    if (section.name === "include" && entry.key === "files") general.imply(key);
    else if (section.name === "supervisord") readGlobal(key, entry, general);
    else if (section.name.startsWith("group:")) {
      if (entry.key === "priority") general.imply(key);
      else general.ignore(key, "pools have no groups; each command names its pools");
    } else general.ignore(key, reason ?? "this section has no equivalent");
  }
}

function readGlobal(key: Key, { key: name, value }: Entry, general: Draft): void {
  if (["environment", "umask", "minfds"].includes(name)) general.imply(key);
  else if (name === "nodaemon" && value !== "false") general.imply(key);
  else if (name === "nodaemon") general.ignore(key, "the controller always runs in the foreground");
  else general.ignore(key, SUPERVISORD[name] ?? "it has no equivalent");
}

interface Group {
  readonly name: string;
  readonly priority: ProgramReader["priority"];
}

/** Groups by the names of their programs. */
function groupsOf(sections: readonly Section[]): Map<string, Group> {
  const groups = new Map<string, Group>();
  for (const section of sections) {
    if (!section.name.startsWith("group:")) continue;
    const find = (name: string) => section.entries.find(({ key }) => key === name);
    const priority = find("priority");
    const group: Group = {
      name: section.name.slice("group:".length),
      priority:
        priority !== undefined && /^-?\d+$/u.test(priority.value)
          ? { value: Number(priority.value), key: keyOf(section, priority) }
          : undefined,
    };
    for (const program of find("programs")?.value.split(/[\s,]+/u) ?? []) groups.set(program, group);
  }
  return groups;
}

const DEFAULT_PRIORITY = 999;

/** Pools by priority: those of one level start when all of the level before have started, and stop before them. */
function inOrder(readers: readonly ProgramReader[]): PoolDraft[] {
  const levels = Map.groupBy(
    readers.toSorted((a, b) => (a.priority?.value ?? DEFAULT_PRIORITY) - (b.priority?.value ?? DEFAULT_PRIORITY)),
    ({ priority }) => priority?.value ?? DEFAULT_PRIORITY,
  );
  let before: PoolDraft[] = [];
  let first = true;
  for (const level of levels.values()) {
    for (const { pool, priority } of level) {
      if (before.length > 0) {
        const names = Object.fromEntries(before.map((each) => [each.name, conditionOf(each)]));
        pool.set(
          "depends_on",
          names,
          priority?.key ?? [],
          priority === undefined ? "supervisord's default priority 999" : undefined,
        );
      } else if (priority !== undefined && first) pool.imply(priority.key);
    }
    first = false;
    const started = level.map(({ pool }) => pool).filter(({ isDisabled }) => !isDisabled);
    if (started.length > 0) before = started;
  }
  return [...levels.values()].flatMap((level) => level.map(({ pool }) => pool));
}

/** supervisord waits for no end, but a short program that starts before others is meant to prepare something. */
function conditionOf(pool: PoolDraft): string {
  return pool.get("type") === undefined ? "started" : "completed";
}
