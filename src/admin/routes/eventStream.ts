/** Server-sent events (HTML Living Standard, "Server-sent events"), with a bound on a slow client's unread bytes. */
import type { ServerResponse } from "node:http";

/** Unread bytes beyond which a follower loses events and receives a `lost` event. */
const MAX_UNREAD_BYTES = 1 << 20;

/** One event in stream format; `id` is its number. */
export function encodeEvent(body: object, id?: number): string {
  return `${id === undefined ? "" : `id: ${id}\n`}data: ${JSON.stringify(body)}\n\n`;
}

/** Server-sent events to one client. A client that does not read loses events and receives the number lost. */
export class EventStream {
  readonly #response: ServerResponse;
  #lost = 0;

  /** Starts the response. */
  constructor(response: ServerResponse) {
    this.#response = response;
    // Disable the timeout: a stream is silent while nothing happens.
    response.socket?.setTimeout(0);
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.flushHeaders();
  }

  /** Sends one event; `id` is its number. */
  send(body: object, id?: number): void {
    this.sendEncoded(Buffer.from(encodeEvent(body, id)), 1);
  }

  /** Sends `count` encoded events, all or none. Takes bytes so that unread ones are counted exactly. */
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
