/**
 * Copies of certificates and keys for an Envoy that may not read the files themselves: a key is often readable by root
 * only. A copy is named after its content, so Envoy sees a renewed certificate as a change.
 */
import { readdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { readWholeFile } from "../../files/readFile.ts";
import type { ProxyLocation, ProxySettings } from "../resources/settings.ts";
import { makeReadable, writePrivate } from "./privateFiles.ts";

export class TlsCopies {
  readonly #directory: string;
  readonly #user: ProxyLocation["user"];
  /** Contents of the files when last read, by path. */
  #contents: ReadonlyMap<string, Buffer> = new Map();

  constructor({ directory, user }: ProxyLocation) {
    this.#directory = join(directory, "tls");
    this.#user = user;
  }

  /** Reads the files of these settings. Resolves with whether anything has changed. Rejects with a FileError. */
  async load({ tls }: ProxySettings): Promise<boolean> {
    if (tls === undefined || this.#user === undefined) return false;
    const before = this.#contents;
    const read = async (path: string) => [path, (await readWholeFile(path)).bytes] as const;
    this.#contents = new Map(await Promise.all([read(tls.cert), read(tls.key)]));
    return [...this.#contents].some(([path, bytes]) => before.get(path)?.equals(bytes) !== true);
  }

  /** The settings with paths of copies; unchanged if Envoy runs as the controller. Call load() before. @throws Error */
  place(settings: ProxySettings): ProxySettings {
    const { tls } = settings;
    if (tls === undefined || this.#user === undefined) return settings;
    makeReadable(this.#directory, this.#user);
    return { ...settings, tls: { cert: this.#copy(tls.cert, "crt"), key: this.#copy(tls.key, "key") } };
  }

  /** Removes the copies that these settings, as returned by place(), do not use. */
  keepOnly({ tls }: ProxySettings): void {
    if (this.#user === undefined) return;
    const named = [tls?.cert, tls?.key].flatMap((path) => (path === undefined ? [] : [basename(path)]));
    for (const name of listNames(this.#directory))
      if (!named.includes(name)) rmSync(join(this.#directory, name), { force: true });
  }

  #copy(source: string, suffix: string): string {
    const content = this.#contents.get(source);
    if (content === undefined) throw new Error(`"${source}" was not read`);
    // Loaded lazily: it costs 4 MB and 8 ms, which only a controller with TLS needs.
    const { createHash } = process.getBuiltinModule("node:crypto");
    const name = createHash("sha256").update(content).digest("hex").slice(0, 16);
    const copy = join(this.#directory, `${name}.${suffix}`);
    writePrivate(copy, content, this.#user);
    return copy;
  }
}

function listNames(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
