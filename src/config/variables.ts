/**
 * Variables of the environment in scalars: `${NAME}` and `${NAME:-default}`; `$$` is a dollar sign. Defaults are not
 * nested. A substituted value stays a separate piece, so that it is never read as a variable, as YAML or as a template.
 */

/** The environment the file is read with. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** A part of a scalar. */
export interface Piece {
  readonly text: string;
  /** Whether it is the value of a variable. Defaults and `$$` count as text of the file. */
  readonly isValue: boolean;
}

/** The pieces and whether a variable was replaced, or an error message. */
export type Substitution =
  | { readonly ok: true; readonly pieces: readonly Piece[]; readonly replaced: boolean }
  | { readonly ok: false; readonly message: string };

const VARIABLE = /\$(?:\$|\{([^${}]*)\})/gu;
const BODY = /^([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$/su;

/** Replaces the variables of `text`. As in a shell, a default also replaces an empty value. */
export function substituteVariables(text: string, env: Environment): Substitution {
  if (!text.includes("$")) return { ok: true, pieces: [{ text, isValue: false }], replaced: false };
  const pieces: Piece[] = [];
  let replaced = false;
  let message: string | undefined;
  let written = "";
  let at = 0;
  for (const match of text.matchAll(VARIABLE)) {
    written += text.slice(at, match.index);
    at = match.index + match[0].length;
    const body = match[1];
    if (body === undefined) {
      written += "$";
      continue;
    }
    const parsed = BODY.exec(body);
    const name = parsed?.[1];
    if (name === undefined) {
      message ??= `expected \${NAME} or \${NAME:-default}, got ${JSON.stringify(match[0].slice(0, 40))} (write $$ for a dollar)`;
      continue;
    }
    replaced = true;
    const value = Object.hasOwn(env, name) ? env[name] : undefined;
    const fallback = parsed?.[2];
    if (fallback !== undefined && (value === undefined || value === "")) {
      written += fallback;
      continue;
    }
    if (value === undefined)
      message ??= `environment variable ${name} is not set (write \${${name}:-default} for a default)`;
    if (written !== "") pieces.push({ text: written, isValue: false });
    written = "";
    pieces.push({ text: value ?? "", isValue: true });
  }
  written += text.slice(at);
  if (written !== "" || pieces.length === 0) pieces.push({ text: written, isValue: false });
  return message === undefined ? { ok: true, pieces, replaced } : { ok: false, message };
}
