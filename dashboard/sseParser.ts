/** Parses server-sent events (HTML Living Standard) from text in arbitrary chunks. Pure. */

/** One event: its name, by default "message", and its data. */
export interface ServerSentEvent {
  readonly name: string;
  readonly data: string;
}

/** Keeps an incomplete event until the next chunk. */
export class SseParser {
  #rest = "";

  /** The events that `chunk` completes. */
  push(chunk: string): readonly ServerSentEvent[] {
    const blocks = (this.#rest + chunk).split("\n\n");
    this.#rest = blocks.pop() ?? "";
    return blocks.flatMap((block) => {
      const lines = block.split("\n");
      const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      const name = lines.find((line) => line.startsWith("event: "))?.slice(7) ?? "message";
      return data.length === 0 ? [] : [{ name, data: data.join("\n") }];
    });
  }
}
