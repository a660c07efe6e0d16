/** The current endpoints of an Envoy with an admin port, read from its admin interface. */
import { get } from "node:http";

/** Ports of workers. Envoy sends requests to those that serve. */
export interface Endpoints {
  readonly serving: readonly number[];
  readonly others: readonly number[];
}

/** Reads `/clusters`. Rejects if Envoy does not run. */
export async function readEndpoints(adminPort: number): Promise<Endpoints> {
  const text = await getText(adminPort, "/clusters");
  const serving: number[] = [];
  const others: number[] = [];
  for (const [, port, flags] of text.matchAll(/^workers::127\.0\.0\.1:(\d+)::health_flags::(.*)$/gmu))
    (flags === "healthy" ? serving : others).push(Number(port));
  return { serving: serving.sort((a, b) => a - b), others };
}

/** Polls about every millisecond until `isSo` holds. Resolves with the time in milliseconds since the epoch. */
export async function untilEndpoints(
  adminPort: number,
  isSo: (endpoints: Endpoints) => boolean,
  withinMs = 20_000,
): Promise<number> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const endpoints = await readEndpoints(adminPort).catch(() => undefined);
    if (endpoints !== undefined && isSo(endpoints)) return performance.timeOrigin + performance.now();
    if (performance.now() > deadline)
      throw new Error(`not as expected within ${withinMs} ms: ${JSON.stringify(endpoints)}`);
    await new Promise((wake) => setTimeout(wake, 1));
  }
}

function getText(port: number, path: string): Promise<string> {
  return new Promise((done, fail) => {
    get({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.on("end", () => done(text));
      response.on("error", fail);
    }).on("error", fail);
  });
}
