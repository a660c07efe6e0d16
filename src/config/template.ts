/** Templates in arguments and environment values: `{{.Port}}`. Anything else in double braces is left alone. */
import { didYouMean } from "./nearest.ts";

/** Every name that may stand in a template. */
export const TEMPLATE_NAMES = ["Port", "Socket", "WorkerID", "Pool", "Slot", "Fd"] as const;
export type TemplateName = (typeof TEMPLATE_NAMES)[number];

/** What each name stands for in one worker; undefined where the worker has no such thing. */
export type TemplateValues = { readonly [Name in TemplateName]?: string | number | undefined };

// No brace inside: an unclosed "{{." then costs only its own length, never the rest of the text.
const TEMPLATE = /\{\{\s*\.([^{}]*)\}\}/gu;

/** `text` with every known template replaced; one without a value stays as it is. */
export function expandTemplate(text: string, values: TemplateValues): string {
  if (!text.includes("{{")) return text;
  return text.replace(TEMPLATE, (template, body: string) => {
    const name = body.trim();
    return isTemplateName(name) ? String(values[name] ?? template) : template;
  });
}

/** The names used in `text`, in order, known or not. */
export function templateNames(text: string): readonly string[] {
  if (!text.includes("{{")) return [];
  return [...text.matchAll(TEMPLATE)].map((match) => (match[1] ?? "").trim());
}

/** What is wrong with the templates of `text`; undefined where nothing is. */
export function templateProblem(text: string): string | undefined {
  for (const name of templateNames(text)) {
    if (!isTemplateName(name)) {
      return `unknown template "{{.${name}}}"${didYouMean(name, TEMPLATE_NAMES) || `, expected one of ${TEMPLATE_NAMES.map((known) => `{{.${known}}}`).join(", ")}`}`;
    }
  }
  return undefined;
}

function isTemplateName(name: string): name is TemplateName {
  return (TEMPLATE_NAMES as readonly string[]).includes(name);
}
