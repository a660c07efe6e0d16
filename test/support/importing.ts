/** Runs a translator on a text and reads its result. */
import { parse } from "yaml";
import { type CheckedImport, checkImport } from "../../src/import/check.ts";
import type { Imported, Source } from "../../src/import/draft.ts";

export interface ReadImport extends CheckedImport {
  /** The pools of the YAML. */
  readonly workers: readonly Record<string, unknown>[];
  /** Reasons of ignored keys, by key. */
  readonly reasons: Readonly<Record<string, string>>;
}

export function sourceOf(text: string, file = "file"): Source {
  return { file, directory: "/srv/here", text };
}

export function readImport(imported: Imported): ReadImport {
  const checked = checkImport(imported, ["Imported."]);
  const reasons = Object.fromEntries(checked.ignored.map(({ key, reason }) => [key, reason]));
  return { ...checked, workers: parse(checked.yaml).supervisor.workers, reasons };
}
