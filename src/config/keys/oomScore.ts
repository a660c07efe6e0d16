/** The value of `oom_score_adj`. */
import type { Kind } from "../kind.ts";
import { parseInteger, scalar } from "../scalars.ts";

/** A value of oom_score_adj; if relative, it is added to the controller's own. */
export interface OomScore {
  readonly value: number;
  readonly isRelative: boolean;
}

/** Above the controller and Envoy, which look large because of their resident files: workers are killed first. */
export const DEFAULT_OOM_SCORE_ADJ: OomScore = { value: 500, isRelative: true };

const MAX_OOM_SCORE = 1000;

/**
 * A value of oom_score_adj, or a quoted number with a sign, which is added to the controller's own. YAML reads an
 * unquoted +500 as the number 500, which is probably unintended. A variable needs no quotes.
 */
export const oomScore: Kind<OomScore> = scalar<OomScore>({
  label: 'integer | "+integer"',
  expected: `a whole number from -${MAX_OOM_SCORE} to ${MAX_OOM_SCORE}, or a quoted number with a sign such as "+500"`,
  schema: {
    anyOf: [
      { type: "integer", minimum: -MAX_OOM_SCORE, maximum: MAX_OOM_SCORE },
      { type: "string", pattern: "^[-+][0-9]{1,4}$" },
    ],
  },
  parse: (text, plain, isReplaced) => {
    const hasSign = /^[-+]/u.test(text);
    const isRelative = hasSign && (!plain || (isReplaced && text.startsWith("+")));
    const value =
      isRelative || (plain && !text.startsWith("+")) ? parseInteger(text, -MAX_OOM_SCORE, MAX_OOM_SCORE) : undefined;
    return value === undefined ? undefined : { value, isRelative };
  },
  show: ({ value, isRelative }) => (isRelative ? `${value < 0 ? "" : "+"}${value}` : value),
  hint: (text, plain) => {
    if (plain && /^\+\d+$/u.test(text))
      return `YAML reads it as ${text.slice(1)}; write "${text}" for a value relative to the controller's own, or ${text.slice(1)}`;
    return !plain && /^\d+$/u.test(text)
      ? `write ${text} without quotes, or "+${text}" for a relative value`
      : undefined;
  },
});
