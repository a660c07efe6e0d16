/** Keys of systemd that are one limit or priority each. */
import type { Value } from "../draft.ts";
import { binarySize } from "../text.ts";
import { parseSpan } from "./unit.ts";

export interface ResourceKey {
  /** Below the pool. */
  readonly path: string;
  /** `implied` if the value needs no setting; undefined if it has no equivalent. */
  readonly read: (value: string) => Value | "implied" | undefined;
}

/** `soft:hard` or one value for both. */
function limit(parse: (text: string) => number | undefined): ResourceKey["read"] {
  const one = (text: string) => (text === "infinity" ? "unlimited" : parse(text));
  return (value) => {
    const [softText = "", hardText = softText] = value.split(":");
    const [soft, hard] = [one(softText), one(hardText)];
    return soft === undefined || hard === undefined ? undefined : { soft, hard };
  };
}

const number = (text: string) => (/^\d+$/u.test(text) ? Number(text) : undefined);

function bytes(text: string): number | undefined {
  const [, digits, unit = ""] = /^(\d+)([KMGT]?)$/u.exec(text) ?? [];
  return digits === undefined ? undefined : Number(digits) * 1024 ** ("KMGT".indexOf(unit || "-") + 1);
}

const RLIMITS: readonly (readonly [names: string, parse: (text: string) => number | undefined])[] = [
  ["AS CORE DATA FSIZE MEMLOCK MSGQUEUE RSS STACK", bytes],
  ["LOCKS NOFILE NPROC RTPRIO SIGPENDING", number],
  ["CPU", (text) => parseSpan(text)],
];

const memory: ResourceKey["read"] = (value) => (value === "infinity" ? "implied" : binarySize(value));

export const RESOURCE_KEYS: Readonly<Record<string, ResourceKey>> = {
  ...Object.fromEntries(
    RLIMITS.flatMap(([names, parse]) =>
      names.split(" ").map((name) => [`Limit${name}`, { path: `rlimits.${name.toLowerCase()}`, read: limit(parse) }]),
    ),
  ),
  Nice: { path: "nice", read: (value) => (/^-?\d+$/u.test(value) ? Number(value) : undefined) },
  OOMScoreAdjust: { path: "oom_score_adj", read: (value) => (/^-?\d+$/u.test(value) ? Number(value) : undefined) },
  UMask: { path: "umask", read: (value) => value },
  MemoryHigh: { path: "limits.memory", read: memory },
  MemoryMax: { path: "limits.memory_hard", read: memory },
};
