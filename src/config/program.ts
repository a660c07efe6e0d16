/** The program of a pool and its arguments, from `command` or from `exec` and `args`. Rules ensure that there is one. */
import type { PoolConfig } from "./config.ts";
import { type Template, templateText } from "./template.ts";

export interface Program {
  readonly exec: string;
  readonly args: readonly Template[];
}

export function programOf({ exec, args, command }: Pick<PoolConfig, "exec" | "args" | "command">): Program {
  const [program, ...rest] = command ?? [];
  if (program !== undefined) return { exec: templateText(program), args: rest };
  if (exec === undefined) throw new RangeError("a pool has neither exec nor command");
  return { exec, args };
}
