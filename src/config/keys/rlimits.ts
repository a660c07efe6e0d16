/** The values of `rlimits` of a pool. */
import { type Block, block, key, type Values } from "../field.ts";
import type { Kind } from "../kind.ts";
import { didYouMean } from "../nearest.ts";
import { integerOr } from "../scalars.ts";

/** Limits supported by setrlimit(2). */
const NAMES: readonly string[] =
  "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split(" ");

export const rlimitName = {
  label: "limit",
  check: (name: string) =>
    NAMES.includes(name)
      ? undefined
      : `unknown limit ${JSON.stringify(name.slice(0, 40))}${didYouMean(name, NAMES) || `, expected one of ${NAMES.join(", ")}`}`,
};

const limit = integerOr("unlimited", 0);

const keys = {
  soft: key("soft", limit, { change: "launch", required: true, doc: "The limit in effect." }),
  hard: key("hard", limit, { change: "launch", unset: "unchanged", doc: "How far the process may raise it." }),
};

export interface RlimitConfig extends Values<typeof keys> {}

const both: Block<RlimitConfig, typeof keys> = block(keys, {
  check: ({ soft, hard }, context) => {
    if (soft === undefined || hard === undefined || hard === "unlimited") return;
    if (soft === "unlimited" || soft > hard)
      context.problem("soft", `expected at most the hard limit ${hard}, got ${soft}`);
  },
});

/** A soft limit, or a block of soft and hard. */
export const rlimit: Kind<RlimitConfig> = {
  label: "integer | unlimited | {soft, hard}",
  expected: `${limit.expected}, or {soft, hard}`,
  read(node, place, reader) {
    if (node.kind === "map") return both.read(node, place, reader);
    const soft = limit.read(node, place, reader);
    return soft === undefined ? undefined : { soft, hard: undefined };
  },
  show: (value) => (value.hard === undefined ? limit.show(value.soft) : both.show(value)),
  jsonSchema: () => ({ anyOf: [limit.jsonSchema(), both.jsonSchema()] }),
};
