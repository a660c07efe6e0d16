/**
 * Templates in arguments and environment values: `{{.Port}}`. A text is parsed once, into parts. The value of
 * a variable is a literal part whatever it contains, so a secret with braces in it reaches the worker unchanged.
 * `{{"{{"}}` is a literal `{{`, as in Go's text/template; any other double braces are left alone.
 */
import { didYouMean } from "./nearest.ts";
import type { Piece } from "./variables.ts";

/** Every name allowed in a template. */
export const TEMPLATE_NAMES = ["Port", "Socket", "WorkerID", "Pool", "Slot", "Fd"] as const;
export type TemplateName = (typeof TEMPLATE_NAMES)[number];

/** The value of each name for one worker; undefined if the worker has none. */
export type TemplateValues = { readonly [Name in TemplateName]?: string | number | undefined };

/** Literal text, or the name of a value. */
export type TemplatePart = string | { readonly name: TemplateName };

/** A parsed text, without empty or adjacent literals, so that equal texts have equal parts. */
export type Template = readonly TemplatePart[];

// No brace inside, so that an unclosed "{{." costs only its own length to match, not the rest of the text.
const TEMPLATE = /\{\{\s*(?:\.([^{}]*)|"\{\{"\s*)\}\}/gu;

/** The pieces of a scalar in which templates have been found; an escaped `{{` counts as the value of a variable. */
type Found = Piece | { readonly name: TemplateName };

/** Finds the templates; each must lie within one piece that comes from the file itself. */
export function findTemplates(
  pieces: readonly Piece[],
): { readonly ok: true; readonly found: readonly Found[] } | { readonly ok: false; readonly message: string } {
  const found: Found[] = [];
  for (const piece of pieces) {
    const { text, isValue } = piece;
    let at = 0;
    for (const match of isValue || !text.includes("{{") ? [] : text.matchAll(TEMPLATE)) {
      found.push({ text: text.slice(at, match.index), isValue });
      at = match.index + match[0].length;
      const name = match[1]?.trim();
      if (name === undefined) found.push({ text: "{{", isValue: true });
      else if (isTemplateName(name)) found.push({ name });
      else return { ok: false, message: unknownName(name) };
    }
    found.push({ text: text.slice(at), isValue });
  }
  return { ok: true, found };
}

/** Parses the pieces of a scalar. */
export function parseTemplate(
  pieces: readonly Piece[],
): { readonly ok: true; readonly template: Template } | { readonly ok: false; readonly message: string } {
  const result = findTemplates(pieces);
  if (!result.ok) return result;
  return { ok: true, template: joinParts(result.found.map((each) => ("name" in each ? each : each.text))) };
}

/** Without empty or adjacent literals. */
export function joinParts(parts: readonly TemplatePart[]): Template {
  const joined: TemplatePart[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (part === "") continue;
    if (typeof part === "string" && typeof last === "string") joined[joined.length - 1] = last + part;
    else joined.push(part);
  }
  return joined;
}

/** Parses a template written in this program. @throws RangeError if it has an unknown name */
export function template(text: string): Template {
  const parsed = parseTemplate([{ text, isValue: false }]);
  if (!parsed.ok) throw new RangeError(parsed.message);
  return parsed.template;
}

/** The text for one worker. A name without a value stays as written. */
export function renderTemplate(parts: Template, values: TemplateValues): string {
  let text = "";
  for (const part of parts) text += typeof part === "string" ? part : String(values[part.name] ?? `{{.${part.name}}}`);
  return text;
}

/** The text with names as written, for messages and look-ups that concern all workers. */
export function templateText(parts: Template): string {
  return renderTemplate(parts, {});
}

/** The source as in a file: parsing it gives the same template. */
export function templateSource(parts: Template): string {
  let source = "";
  for (const part of parts)
    source += typeof part === "string" ? part.replace(/\{\{(?=\s*[."])/gu, '{{"{{"}}') : `{{.${part.name}}}`;
  return source;
}

/** The names used, in order. */
export function templateNames(
  parts: readonly (string | { readonly name?: TemplateName | undefined } | undefined)[],
): readonly TemplateName[] {
  return parts.flatMap((part) => (typeof part === "object" && part.name !== undefined ? [part.name] : []));
}

function unknownName(name: string): string {
  const hint = didYouMean(name, TEMPLATE_NAMES);
  const known = TEMPLATE_NAMES.map((each) => `{{.${each}}}`).join(", ");
  return `unknown template "{{.${name}}}"${hint || `, expected one of ${known} (write {{"{{"}} for literal double braces)`}`;
}

function isTemplateName(name: string): name is TemplateName {
  return (TEMPLATE_NAMES as readonly string[]).includes(name);
}
