/**
 * Streams log lines to followers. Each chunk is split and encoded once and all followers share the bytes. So each
 * additional follower costs no memory except its unread bytes, which are bounded.
 */
import type { ServerResponse } from "node:http";
import type { LogLine } from "../api.ts";
import type { ControllerHandle } from "../handle.ts";
import { EventStream, encodeEvent } from "./eventStream.ts";

const FEEDS = new WeakMap<ControllerHandle, LogFeed>();

/** Sends every new log line to `response` until its client disconnects. */
export function followLogs(controller: ControllerHandle, response: ServerResponse): void {
  FEEDS.getOrInsertComputed(controller, () => new LogFeed(controller)).add(response);
}

class LogFeed {
  readonly #controller: ControllerHandle;
  readonly #followers = new Set<EventStream>();
  /** A chunk may end inside a line or a character; the remainder is kept for the next chunk. */
  readonly #rests = new Map<LogLine["stream"], Buffer>();
  #tap: Disposable | undefined;

  constructor(controller: ControllerHandle) {
    this.#controller = controller;
  }

  add(response: ServerResponse): void {
    const stream = new EventStream(response);
    this.#followers.add(stream);
    this.#tap ??= this.#controller.tapLogs((name, chunk) => this.#take(name, chunk));
    response.once("close", () => {
      this.#followers.delete(stream);
      if (this.#followers.size > 0) return;
      this.#tap?.[Symbol.dispose]();
      this.#tap = undefined;
      this.#rests.clear();
    });
  }

  #take(name: LogLine["stream"], chunk: Buffer): void {
    const rest = this.#rests.get(name);
    const bytes = rest === undefined || rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const end = bytes.lastIndexOf(10) + 1;
    this.#rests.set(name, Buffer.from(bytes.subarray(end)));
    if (end === 0) return;
    const lines = bytes.toString("utf8", 0, end - 1).split("\n");
    const encoded = Buffer.from(lines.map((line) => encodeEvent({ stream: name, line } satisfies LogLine)).join(""));
    for (const follower of this.#followers) follower.sendEncoded(encoded, lines.length);
  }
}
