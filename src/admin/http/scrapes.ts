/**
 * Answers scrapes. Scrapes that wait at the same moment share one exposition, and responses are sent a few at a time.
 * So many scrapers cost no more than one, and do not delay health checks, which are answered as soon as they are read.
 */

import type { ServerResponse } from "node:http";
import { monotonicMs } from "../../base/monotonic.ts";
import { TimeShare } from "../../base/timeShare.ts";
import { inTurns } from "../../base/turns.ts";
import type { ControllerHandle } from "../handle.ts";

interface Scrape {
  readonly accept: string;
  readonly response: ServerResponse;
}

/** Expositions take at most a fifth of the time; a short burst of scrapes is served without delay. */
const SHARE = 0.2;
const BURST_MS = 250;

const QUEUES = new WeakMap<ControllerHandle, Scrapes>();

/** Answers with the controller's metrics in the format requested by `accept`. */
export function answerScrape(controller: ControllerHandle, scrape: Scrape): void {
  QUEUES.getOrInsertComputed(controller, () => new Scrapes((accept) => controller.metrics(accept))).add(scrape);
}

/** Takes an encoded body, because the text is large with many workers. */
export function sendExposition(response: ServerResponse, body: Buffer, contentType: string): void {
  response.writeHead(200, { "content-type": contentType, "content-length": body.length }).end(body);
}

class Scrapes {
  readonly #metrics: ControllerHandle["metrics"];
  #waiting: Scrape[] = [];
  #isBusy = false;
  readonly #share = new TimeShare(SHARE, BURST_MS);

  constructor(metrics: ControllerHandle["metrics"]) {
    this.#metrics = metrics;
  }

  add(scrape: Scrape): void {
    this.#waiting.push(scrape);
    if (!this.#isBusy) this.#begin();
  }

  #begin(): void {
    this.#isBusy = true;
    const waitMs = this.#share.waitMs(monotonicMs());
    if (waitMs > 0) setTimeout(() => this.#answerAll(), waitMs);
    else setImmediate(() => this.#answerAll());
  }

  #answerAll(): void {
    const startedAtMs = monotonicMs();
    const scrapes = this.#waiting.filter(({ response }) => !response.destroyed);
    this.#waiting = [];
    // All in one turn, during which the controller returns the same text for the same format.
    const bodies = new Map<string, Buffer>();
    const answers = scrapes.map(({ accept, response }) => {
      const { text, contentType } = this.#metrics(accept);
      return { response, body: bodies.getOrInsertComputed(contentType, () => Buffer.from(text)), contentType };
    });
    this.#share.spend(startedAtMs, monotonicMs());
    const send = ({ response, body, contentType }: (typeof answers)[number]) =>
      sendExposition(response, body, contentType);
    inTurns(answers, send, () => {
      this.#isBusy = false;
      if (this.#waiting.length > 0) this.#begin();
    });
  }
}
