/**
 * Server-sent events, parsed in chunks (HTML Living Standard, "Server-sent events": interpreting an event stream).
 * Only what the admin API uses: `event` and `data`. Pure.
 */

/** One event of a stream. */
export interface SseMessage {
  /** "message" if the stream does not specify one. */
  readonly event: string;
  /** Lines of `data`, joined by newlines. */
  readonly data: string;
}

/** Takes text in arbitrary chunks and returns complete events. An event without its blank line is incomplete. */
export class SseParser {
  #rest = "";
  #event = "";
  #data: string[] = [];

  /** The events that `chunk` completes. */
  push(chunk: string): SseMessage[] {
    const messages: SseMessage[] = [];
    // The remainder holds no newline, so only the new chunk is searched.
    let searchFrom = this.#rest.length;
    const text = this.#rest + chunk;
    let start = 0;
    for (;;) {
      const end = text.indexOf("\n", searchFrom);
      if (end < 0) break;
      const line = text.slice(start, text[end - 1] === "\r" && end > start ? end - 1 : end);
      start = end + 1;
      searchFrom = start;
      const message = this.#take(line);
      if (message !== undefined) messages.push(message);
    }
    this.#rest = text.slice(start);
    return messages;
  }

  #take(line: string): SseMessage | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "event") this.#event = value;
    else if (field === "data") this.#data.push(value);
    return undefined;
  }

  #dispatch(): SseMessage | undefined {
    const data = this.#data;
    const message = { event: this.#event === "" ? "message" : this.#event, data: data.join("\n") };
    this.#event = "";
    this.#data = [];
    return data.length === 0 ? undefined : message;
  }
}
