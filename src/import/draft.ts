/**
 * The form between a file of another process manager and our YAML: pools as lists of settings, each with the keys of the
 * source that it came from. A translator fills it in, print.ts prints it, and check.ts verifies the result.
 */

/** A key of the source. */
export interface Key {
  /** The whole name, such as `program:web.numprocs`. */
  readonly name: string;
  /** The name within its section, such as `numprocs`. */
  readonly short: string;
  /** `file:line`, or `file` if the line is unknown. */
  readonly where: string;
}

/** What a setting holds: scalars in the syntax of our file, with `${NAME}` and templates. */
export type Value = string | number | boolean | readonly Value[] | { readonly [name: string]: Value };

/** A value of one of our keys. */
export interface Setting {
  /** Below the pool or the supervisor, such as `["restart", "policy"]`. */
  readonly path: readonly string[];
  readonly value: Value;
  /** Empty for a default of the other program, which `remark` then explains. */
  readonly keys: readonly Key[];
  /** Printed after the value, in addition to the names of the keys. */
  readonly remark?: string | undefined;
}

/** A key of the source that was not translated. */
export interface Ignored {
  readonly key: string;
  /** The name within its section. */
  readonly short: string;
  readonly where: string;
  /** A sentence without a full stop. */
  readonly reason: string;
}

/** Settings of one block, with what the reader must know about them. */
export class Draft {
  readonly settings: Setting[] = [];
  readonly notes: string[] = [];
  readonly ignored: Ignored[] = [];
  /** Keys that need no setting, because they say what happens anyway. */
  readonly implied: Key[] = [];

  /**
   * Sets `path`; a dotted path cannot contain names with dots. Does nothing for undefined. Replaces an earlier value,
   * whose keys are then ignored unless they are also keys of this one or of another setting.
   */
  set(
    path: string | readonly string[],
    value: Value | undefined,
    keys: Key | readonly Key[] = [],
    remark?: string,
  ): void {
    if (value === undefined) return;
    const parts = typeof path === "string" ? path.split(".") : path;
    const replaced = this.remove(parts);
    this.settings.push({ path: parts, value, keys: "name" in keys ? [keys] : keys, remark });
    for (const key of replaced?.keys ?? [])
      if (!this.settings.some((setting) => setting.keys.includes(key)))
        this.ignore(key, `a later line sets ${parts.join(".")} again`);
  }

  get(path: string): Setting | undefined {
    return this.settings.find((setting) => setting.path.join(".") === path);
  }

  /** Removes and returns the setting at exactly this path. */
  remove(path: readonly string[]): Setting | undefined {
    const at = this.settings.findIndex((setting) => setting.path.join("\0") === path.join("\0"));
    return at < 0 ? undefined : this.settings.splice(at, 1)[0];
  }

  /** Adds a note once. */
  note(text: string): void {
    if (!this.notes.includes(text)) this.notes.push(text);
  }

  ignore({ name, short, where }: Key, reason: string): void {
    this.ignored.push({ key: name, short, where, reason });
  }

  imply(key: Key): void {
    this.implied.push(key);
  }
}

/** A pool. */
export class PoolDraft extends Draft {
  readonly name: string;
  /** Where it comes from, such as `[program:web] in supervisord.conf`. */
  readonly title: string;
  /** Whether it is printed as a comment, because the other program does not start it by itself. */
  isDisabled = false;

  constructor(name: string, title: string) {
    super();
    this.name = name;
    this.title = title;
  }

  /** Sets a variable of the environment. */
  setEnv(name: string, value: string, keys: Key | readonly Key[] = [], remark?: string): void {
    this.set(["env", name], value, keys, remark);
  }
}

/** A translated file. */
export interface Imported {
  readonly pools: readonly PoolDraft[];
  /** Settings of `supervisor`, and notes and ignored keys that concern no single pool. */
  readonly general: Draft;
}

/** A file that was read. */
export interface Source {
  /** As named by the user. */
  readonly file: string;
  /** Absolute directory of the file. */
  readonly directory: string;
  readonly text: string;
}

/** The file is not what the user said, or contains nothing that can be translated. */
export class SourceError extends Error {
  override readonly name = "SourceError";
}

/** A pool name from any text: unsupported characters become `-`. Unique among `taken`. */
export function poolName(text: string, taken: readonly PoolDraft[] = []): string {
  const base =
    text
      .replaceAll(/[^A-Za-z0-9_.-]+/gu, "-")
      .replace(/^[^A-Za-z0-9_]+/u, "")
      .slice(0, 59) || "pool";
  let name = base;
  for (let count = 2; taken.some((pool) => pool.name === name); count += 1) name = `${base}-${count}`;
  return name;
}

/** Ports for the workers of proxied pools: 100 for each, above the default admin port. */
export function startPortOf(index: number): number {
  return 9100 + 100 * index;
}
