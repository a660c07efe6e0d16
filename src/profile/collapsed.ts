/** Collapsed stacks, a line each, outermost first, as `py-spy record --format raw` writes them. Pure. */
import type { Frame } from "./pprof.ts";

/** The stacks of a text such as `main (app.py:3);spin (app.py:9) 42`; skips malformed lines, such as cut-off ones. */
export function parseCollapsed(text: string) {
  return text.split("\n").flatMap((line) => {
    const match = /^(.+) (\d+)$/u.exec(line.trim());
    const [, stack, count] = match ?? [];
    return stack === undefined ? [] : [{ frames: stack.split(";").map(parseFrame), count: Number(count) }];
  });
}

/** Parses `name (file:line)`, `name (file)` or just a name. */
function parseFrame(text: string): Frame {
  const [, name, file, line] = /^(.*) \((.*?)(?::(\d+))?\)$/u.exec(text) ?? [];
  return name === undefined || file === undefined
    ? { name: text, file: "", line: 0 }
    : { name: withoutAngles(name), file, line: Number(line ?? 0) };
}

/** pprof strips angle brackets as template arguments, which would turn `<module>` into an empty name. */
function withoutAngles(name: string): string {
  return name.replace(/^<(.*)>$/u, "($1)");
}
