/** Requests to processbin whose responses take about a second, and whose start is awaited. */
import { get } from "node:http";
import type { LoadTarget } from "./load.ts";

/** Opens `count` streams of 20 events. Resolves when each has begun, with promises of their bodies or errors. */
export async function openStreams(target: LoadTarget, count: number): Promise<readonly Promise<string>[]> {
  const all = Array.from({ length: count }, () => openStream(target));
  await Promise.all(all.map(({ begun }) => begun));
  return all.map(({ body }) => body);
}

function openStream(target: LoadTarget): { readonly begun: Promise<void>; readonly body: Promise<string> } {
  const begun = Promise.withResolvers<void>();
  const body = new Promise<string>((done) => {
    const to = "port" in target ? { port: target.port, host: "127.0.0.1" } : { socketPath: target.socketPath };
    get({ ...to, path: "/sse?n=20&ms=50", agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
        begun.resolve();
      });
      response.on("end", () => done(text));
      response.on("error", (error) => done(`broken off: ${error.message}`));
    }).on("error", (error) => {
      begun.reject(error);
      done(`failed: ${error.message}`);
    });
  });
  return { begun: begun.promise, body };
}
