/**
 * Suggestions for keys of other process managers and for values in other notations. Pure text; each hint completes a
 * problem that is reported anyway.
 */

/** Hints by key of another program, in lower case without "-" and "_". */
export type ForeignKeys = ReadonlyMap<string, string>;

/** `lines` maps keys, separated by spaces and in that spelling, to one hint. */
export function foreignKeys(lines: Readonly<Record<string, string>>): ForeignKeys {
  return new Map(Object.entries(lines).flatMap(([names, hint]) => names.split(" ").map((name) => [name, hint])));
}

/** `; write env …` for a key of another program, or an empty string. */
export function foreignKeyHint(key: string, foreign: ForeignKeys): string {
  const hint = foreign.get(key.toLowerCase().replaceAll(/[-_ ]/gu, ""));
  return hint === undefined ? "" : `; ${hint}`;
}

/** Other notations of units, without a plural s: the factor and the unit to write. */
const DURATION_UNITS: readonly (readonly [notations: string, factor: number, unit: string])[] = [
  ["sec second", 1, "s"],
  ["m min minute", 1, "m"],
  ["h hour hr", 1, "h"],
  ["ms milli msec millisecond", 1, "ms"],
  ["d day", 24, "h"],
  ["w week", 168, "h"],
];

/** What to write for a number without a unit, or with one that Go's durations do not have. */
export function durationHint(text: string): string | undefined {
  const [, number = "", written = ""] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/u.exec(text) ?? [];
  const lower = written.toLowerCase();
  const unit = lower === "ms" ? lower : lower.replace(/s$/u, "");
  if (number === "") return undefined;
  if (unit === "") return `write ${number}s`;
  const [, factor, wanted] = DURATION_UNITS.find(([notations]) => notations.split(" ").includes(unit)) ?? [];
  return factor === undefined ? undefined : `write ${Number((Number(number) * factor).toFixed(3))}${wanted}`;
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
  if (/["'\\$`|&;<>()*?[\]{}#~]/u.test(text)) return "write a list with an item for each word; no shell is involved";
  return `write [${text
    .trim()
    .split(/\s+/u)
    .map((each) => JSON.stringify(each))
    .join(", ")}]`;
}

/** What to write for a path that only a shell would expand. */
export function pathHint(text: string): string | undefined {
  if (text === "~" || text.startsWith("~/")) return `"~" is not expanded; write \${HOME}${text.slice(1)}`;
  return /^~[A-Za-z_][\w-]*(?:\/|$)/u.test(text)
    ? '"~" is not expanded; write the path of the home directory'
    : undefined;
}

/** Recognises the file format of another program; undefined if none matches. */
export function foreignFile(text: string): { readonly offset: number; readonly message: string } | undefined {
  const expected = "expected YAML with supervisor and workers";
  for (const [pattern, what, kind] of FOREIGN_FILES) {
    const match = pattern.exec(text);
    if (match !== null) return { offset: match.index, message: `${what}; ${expected}${importHint(kind)}` };
  }
  const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
  if (lines.length > 0 && lines.every((line) => PROCFILE_LINE.test(line)))
    return {
      offset: text.indexOf(lines[0] ?? ""),
      message: `this is a Procfile; ${expected}, one pool with name and command for each line${importHint("procfile")}`,
    };
  return undefined;
}

function importHint(kind: string | undefined): string {
  return kind === undefined ? "" : ` (\`monoceros import ${kind} FILE\` translates it)`;
}

/** Matches `web: gunicorn app` in a file without a key of ours. */
const PROCFILE_LINE = /^(?!(?:admin|supervisor):)[A-Za-z0-9_-]+:[^\S\n]+[A-Za-z_./$]\S*(?:[^\S\n].*)?$/u;

/** The kind is that of `monoceros import`. */
const FOREIGN_FILES: readonly (readonly [pattern: RegExp, what: string, kind?: string])[] = [
  [
    /^\[(?:program:[^\]\n]+|supervisord|supervisorctl|unix_http_server|group:[^\]\n]+)\][^\S\n]*$/mu,
    "this is a supervisord configuration",
    "supervisord",
  ],
  [/^\[(?:Unit|Service|Install)\][^\S\n]*$/mu, "this is a systemd unit", "systemd"],
  [/^\[(?:circus|watcher:[^\]\n]+|socket:[^\]\n]+)\][^\S\n]*$/mu, "this is a circus configuration"],
  [/^\[uwsgi\][^\S\n]*$/mu, "this is a uWSGI configuration"],
  [/^(?:module\.exports\s*=|export default\b)/mu, "this is a PM2 configuration in JavaScript", "pm2"],
  [/^(?:worker_class|workers|bind)\s*=\s*(?:\d+|["'].*)$/mu, "this is a gunicorn configuration", "gunicorn"],
];
