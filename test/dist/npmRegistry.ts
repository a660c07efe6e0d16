/** An npm registry on loopback that has the packages of dist/release and no others. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { basename } from "node:path";
import { RELEASE } from "./installation.ts";

export class NpmRegistry implements AsyncDisposable {
  readonly #server: Server;
  readonly #files = new Map<string, string>();
  readonly #manifests = new Map<string, Record<string, unknown>>();

  private constructor() {
    for (const file of globSync(`${RELEASE}/*.tgz`)) {
      const manifest = JSON.parse(
        execFileSync("tar", ["-xzOf", file, "package/package.json"], { encoding: "utf8" }),
      ) as Record<string, unknown> & { name: string };
      this.#files.set(basename(file), file);
      this.#manifests.set(manifest.name, { ...manifest, file });
    }
    this.#server = createServer((request, response) => {
      const path = decodeURIComponent((request.url ?? "").slice(1));
      const file = this.#files.get(path);
      if (file !== undefined) return response.end(readFileSync(file));
      const body = this.#describe(path);
      response.statusCode = body === undefined ? 404 : 200;
      return response.end(JSON.stringify(body ?? {}));
    });
  }

  static async start(): Promise<NpmRegistry> {
    const registry = new NpmRegistry();
    registry.#server.listen(0, "127.0.0.1");
    await once(registry.#server, "listening");
    return registry;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** The registry's document of a package. */
  #describe(name: string): unknown {
    const manifest = this.#manifests.get(name);
    if (manifest === undefined) return undefined;
    const { file, version, ...rest } = manifest as { file: string; version: string };
    const integrity = `sha512-${createHash("sha512").update(readFileSync(file)).digest("base64")}`;
    const dist = { tarball: `${this.url}${basename(file)}`, integrity };
    return { name, "dist-tags": { latest: version }, versions: { [version]: { ...rest, version, dist } } };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}
