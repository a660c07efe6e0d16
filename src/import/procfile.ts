/** Procfiles of Heroku, foreman, honcho and overmind. */
import { Draft, type Imported, type Key, PoolDraft, poolName, type Source, SourceError, startPortOf } from "./draft.ts";
import { setShellCommand } from "./shell.ts";
import { plain } from "./text.ts";

export interface ProcfileOptions {
  /** Number of processes by name, such as `{ web: 4, worker: 2 }`; `all` is for names that are not listed. */
  readonly formation: Readonly<Record<string, number>>;
  /** Path of a `.env` beside the file; undefined if there is none. */
  readonly envFile: string | undefined;
}

interface Line {
  readonly name: string;
  readonly command: string;
  readonly key: Key;
}

/** @throws SourceError if a line is not `name: command`, or the formation names an unknown process */
export function translateProcfile(source: Source, { formation, envFile }: ProcfileOptions): Imported {
  const lines = readLines(source);
  for (const name of Object.keys(formation))
    if (name !== "all" && !lines.some((line) => line.name === name))
      throw new SourceError(`it has no process "${name}", which --formation names`);
  const general = new Draft();
  const pools: PoolDraft[] = [];
  const release = formation["release"] === 0 ? undefined : lines.find(({ name }) => name === "release");
  for (const [index, { name, command, key }] of lines.entries()) {
    const pool = new PoolDraft(poolName(name, pools), `${name}: in ${key.where}`);
    if (name === "release") pool.set("type", "oneshot", key, "runs once, before the other pools");
    else readProcess(pool, name, index, { command, key });
    if (name === "release") setShellCommand(pool, command, key);
    else if (release !== undefined) pool.set("depends_on", { release: "completed" }, release.key);
    if (envFile !== undefined) pool.set("env_file", plain(envFile), [], "foreman reads it; Heroku does not");
    const count = formation[name] ?? formation["all"] ?? 1;
    if (name !== "release" && count > 1) pool.set("replicas", count, [], "--formation");
    if (count === 0) pool.isDisabled = true;
    pools.push(pool);
  }
  return { pools, general };
}

function readLines({ text, file }: Source): Line[] {
  const lines: Line[] = [];
  for (const [index, line] of text.split(/\r?\n/u).entries()) {
    if (/^\s*(?:#|$)/u.test(line)) continue;
    const where = `${file}:${index + 1}`;
    const [, name, command] = /^([A-Za-z0-9_-]+):\s*(\S.*)$/u.exec(line.trimEnd()) ?? [];
    if (name === undefined || command === undefined)
      throw new SourceError(
        `${where}: expected a line such as "web: command", got ${JSON.stringify(line.slice(0, 60))}`,
      );
    if (lines.some((earlier) => earlier.name === name)) throw new SourceError(`${where}: duplicate process "${name}"`);
    lines.push({ name, command, key: { name, short: name, where } });
  }
  if (lines.length === 0) throw new SourceError('it has no line such as "web: command"');
  return lines;
}

/** foreman gives each process type 100 ports from 5000 on. */
const FIRST_PORT = 5000;

function readProcess(
  pool: PoolDraft,
  name: string,
  index: number,
  { command, key }: Pick<Line, "command" | "key">,
): void {
  if (name !== "web") {
    const port = String(FIRST_PORT + 100 * index);
    setShellCommand(pool, command, key, { PORT: port });
    if (!/\$\{?PORT\b/u.test(command)) return;
    pool.setEnv("PORT", port, key, "as foreman sets it");
    pool.note("all workers of the pool have the same PORT; for more than one, write server or sockets");
    return;
  }
  setShellCommand(pool, command, key, { PORT: "{{.Port}}" });
  const port = `\${PORT:-${FIRST_PORT}}`;
  pool.set("server.listener_port", port, key, "where clients connect: $PORT of the controller");
  pool.set("server.start_port", startPortOf(index), key, "each worker finds its own port in PORT");
  pool.note(
    "Envoy serves the port and balances requests over the workers. For a single program without Envoy, remove server, and write {{.Port}} as its port",
  );
}
