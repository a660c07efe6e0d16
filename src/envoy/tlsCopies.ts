/**
 * Copies of certificates and keys for an Envoy that may not read the files themselves: a key is often readable by root
 * only. A copy is named after its content, so Envoy sees a renewed certificate as a change.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { makeReadable, writePrivate } from "./privateFiles.ts";
import type { ProxyPlaces, ProxySettings } from "./settings.ts";

/** Certificate chains are a few KB. */
const MAX_BYTES = 1 << 20;

export class TlsCopies {
  readonly #directory: string;
  readonly #user: ProxyPlaces["user"];

  constructor({ directory, user }: ProxyPlaces) {
    this.#directory = join(directory, "tls");
    this.#user = user;
  }

  /** The settings with the copies in place of the files; the files themselves if Envoy runs as the controller. @throws Error */
  place(settings: ProxySettings): ProxySettings {
    const { tls } = settings;
    if (tls === undefined || this.#user === undefined) return settings;
    makeReadable(this.#directory, this.#user);
    return { ...settings, tls: { cert: this.#copy(tls.cert, "crt"), key: this.#copy(tls.key, "key") } };
  }

  /** Removes the copies that these settings, which place() returned, do not name. */
  keepOnly({ tls }: ProxySettings): void {
    if (this.#user === undefined) return;
    const named = [tls?.cert, tls?.key].flatMap((path) => (path === undefined ? [] : [basename(path)]));
    for (const name of listNames(this.#directory))
      if (!named.includes(name)) rmSync(join(this.#directory, name), { force: true });
  }

  #copy(source: string, suffix: string): string {
    const content = readRegular(source);
    // 4 MB and 8 ms, which only a controller with TLS pays.
    const { createHash } = process.getBuiltinModule("node:crypto");
    const name = createHash("sha256").update(content).digest("hex").slice(0, 16);
    const copy = join(this.#directory, `${name}.${suffix}`);
    writePrivate(copy, content, this.#user);
    return copy;
  }
}

/** @throws Error of the system, or if it is no regular file or too large */
function readRegular(path: string): Buffer {
  // Without O_NONBLOCK the open of a FIFO waits for a writer.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile() || stat.size > MAX_BYTES)
      throw new Error(`"${path}" is not a regular file of at most ${MAX_BYTES} bytes`);
    return readFileSync(fd);
  } finally {
    closeSync(fd);
  }
}

function listNames(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
