/**
 * `${VAR}` and `${VAR:-default}` in scalars of the configuration; `$$` is a dollar, any other dollar stands for itself.
 * Defaults are not nested. What is put in is never read again, neither as a variable nor as YAML.
 */

/** The environment the file is read with. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The outcome: the new text and whether a variable was replaced, or what is wrong. */
export type Substitution =
  | { readonly ok: true; readonly text: string; readonly replaced: boolean }
  | { readonly ok: false; readonly message: string };

const VARIABLE = /\$(?:\$|\{([^${}]*)\})/gu;
const BODY = /^([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?$/su;

/** Replaces the variables of `text`. As in a shell, a default also stands in for an empty value. */
export function substituteVariables(text: string, env: Environment): Substitution {
  if (!text.includes("$")) return { ok: true, text, replaced: false };
  let replaced = false;
  let message: string | undefined;
  const result = text.replace(VARIABLE, (whole, body: string | undefined) => {
    if (body === undefined) return "$";
    const match = BODY.exec(body);
    const name = match?.[1];
    if (name === undefined) {
      message ??= `expected \${NAME} or \${NAME:-default}, got ${JSON.stringify(whole.slice(0, 40))} (write $$ for a dollar)`;
      return "";
    }
    replaced = true;
    const value = Object.hasOwn(env, name) ? env[name] : undefined;
    const fallback = match?.[2];
    if (fallback !== undefined) return value === undefined || value === "" ? fallback : value;
    if (value === undefined)
      message ??= `environment variable ${name} is not set (\${${name}:-default} gives it a default)`;
    return value ?? "";
  });
  return message === undefined ? { ok: true, text: result, replaced } : { ok: false, message };
}
