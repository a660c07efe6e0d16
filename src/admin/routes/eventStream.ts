/** Server-sent events (HTML Living Standard, "Server-sent events"), with a bound on what a slow client may have unread. */
import type { ServerResponse } from "node:http";

/** What a follower may have unread before it loses events, which it is told. */
const MAX_UNREAD_BYTES = 1 << 20;

/** One event as the stream has it; `id` is its number. */
export function encodeEvent(body: object, id?: number): string {
  return `${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(body)}\n\n`;
}

/** Server-sent events to one client; a client that does not read loses events and is told how many. */
export class EventStream {
  readonly #response: ServerResponse;
  #lost = 0;

  /** Begins the answer. */
  constructor(response: ServerResponse) {
    this.#response = response;
    // A stream may be silent for as long as nothing happens.
    response.socket?.setTimeout(0);
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.flushHeaders();
  }

  /** Sends one event; `id` is its number. */
  send(body: object, id?: number): void {
    this.sendEncoded(Buffer.from(encodeEvent(body, id)), 1);
  }

  /** Sends `count` events that are encoded already, all or none of them. As bytes: the unread ones are counted exactly. */
  sendEncoded(events: Buffer, count: number): void {
    if (this.#response.writableLength > MAX_UNREAD_BYTES) {
      this.#lost += count;
      return;
    }
    if (this.#lost > 0) {
      this.#response.write(`event: lost\ndata: ${JSON.stringify({ lost: this.#lost })}\n\n`);
      this.#lost = 0;
    }
    this.#response.write(events);
  }
}
