/** Checks that the log path loses, truncates and reorders nothing, by comparing each output line with its input. */

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";

/** Checks that the output is the JSON lines of `makeLine` in order, each with a worker_id. @throws Error */
export function checkJsonOutput(path: string, count: number, makeLine: (index: number) => string): Promise<void> {
  return checkLines(path, count, (line, index) => {
    const { worker_id, ...rest } = JSON.parse(line) as Record<string, unknown>;
    const origin = makeLine(index);
    // Numbers must be textually equal, so compare the bytes of the input without its braces.
    return typeof worker_id === "string" && (line.includes(origin.slice(1, -1)) || sameJson(rest, origin));
  });
}

/** Checks that the output is one JSON record for each text line of `makeLine`, in order. @throws Error */
export function checkTextOutput(path: string, count: number, makeLine: (index: number) => string): Promise<void> {
  return checkLines(path, count, (line, index) => {
    const record = JSON.parse(line) as Record<string, unknown>;
    return record["worker_info_msg"] === makeLine(index) && typeof record["worker_id"] === "string";
  });
}

function sameJson(value: unknown, text: string): boolean {
  return JSON.stringify(value) === JSON.stringify(JSON.parse(text));
}

async function checkLines(
  path: string,
  count: number,
  isRight: (line: string, index: number) => boolean,
): Promise<void> {
  let index = 0;
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Number.POSITIVE_INFINITY })) {
    if (index >= count || !isRight(line, index)) throw new Error(`line ${index + 1} of the output is wrong: ${line}`);
    index++;
  }
  if (index !== count) throw new Error(`${count} lines written, ${index} arrived`);
}
