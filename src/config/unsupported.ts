/** Keys that are valid but whose machinery this version lacks: to be refused when something shall run, not when read. */
import type { Config } from "./config.ts";
import type { Kind } from "./field.ts";
import type { Position } from "./reader.ts";
import { configKind } from "./schema.ts";

/** One such key. */
export interface UnsupportedKey {
  readonly path: string;
  readonly reason: string;
  /** Where it stands, if the positions of the file are known. */
  readonly position: Position | undefined;
}

/** Every key that is set to something else than its default and cannot be honoured; in the order of the schema. */
export function findUnsupported(
  config: Config,
  positions: ReadonlyMap<string, Position> = new Map(),
): readonly UnsupportedKey[] {
  const found: UnsupportedKey[] = [];
  visit(configKind, config, "", (path, reason) => found.push({ path, reason, position: positions.get(path) }));
  return found;
}

function visit(
  kind: Kind<unknown>,
  value: unknown,
  path: string,
  report: (path: string, reason: string) => void,
): void {
  const parts = kind.parts;
  if (parts === undefined || typeof value !== "object" || value === null) return;
  if (parts.type === "object") {
    const values = value as Readonly<Record<string, unknown>>;
    for (const field of parts.fields) {
      const inner = values[field.property];
      if (inner === undefined) continue;
      const at = path === "" ? field.yaml : `${path}.${field.yaml}`;
      if (field.notYet === undefined) visit(field.kind, inner, at, report);
      else if (!isDefault(inner, "default" in field ? field.default : undefined)) report(at, field.notYet);
    }
  } else if (parts.type === "list" && Array.isArray(value)) {
    for (const [index, item] of value.entries()) visit(parts.item, item, `${path}[${index}]`, report);
  }
}

function isDefault(value: unknown, defaultValue: unknown): boolean {
  return value === defaultValue || (Array.isArray(value) && Array.isArray(defaultValue) && value.length === 0);
}
