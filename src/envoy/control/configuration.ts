/** The configuration of one Envoy: its settings, and the files from which Envoy reads them. */
import { existsSync, lstatSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import { messageOf } from "../../base/errors.ts";
import { bootstrap } from "../resources/bootstrap.ts";
import { proxyFiles } from "../resources/files.ts";
import type { ProxyLocation, ProxySettings } from "../resources/settings.ts";
import { serveArgs } from "./commandLine.ts";
import { makeOwn, makePassable, makeReadable, writeWhole } from "./privateFiles.ts";
import { ResourceFiles } from "./resourceFiles.ts";
import { TlsCopies } from "./tlsCopies.ts";

export class Configuration {
  readonly resources: ResourceFiles;
  #settings: ProxySettings;
  readonly #location: ProxyLocation;
  readonly #tls: TlsCopies;

  constructor(settings: ProxySettings, location: ProxyLocation) {
    this.#settings = settings;
    this.#location = location;
    this.resources = new ResourceFiles(proxyFiles(location), location.user);
    this.#tls = new TlsCopies(location);
  }

  get settings(): ProxySettings {
    return this.#settings;
  }

  /** Envoy's arguments. */
  args(): string[] {
    return serveArgs(this.#settings, this.#location);
  }

  /**
   * Reads the certificate and key that Envoy cannot read itself. Must resolve before the first write(). Resolves with
   * whether Envoy uses an older version of them. Rejects with a FileError.
   */
  async loadTls(): Promise<boolean> {
    return (await this.#tls.load(this.#settings)) && this.resources.isWritten;
  }

  /** Writes everything Envoy reads except for the endpoints, and creates their directory. @throws Error of the system */
  write(): void {
    const { bootstrap: file, endpoints } = proxyFiles(this.#location);
    const { admin, directory, user } = this.#location;
    if (user !== undefined) makePassable(directory);
    makeReadable(dirname(endpoints), user);
    if ("socketPath" in admin) {
      makeOwn(dirname(admin.socketPath), user);
      // Envoy cannot bind the socket of its killed predecessor. Any other kind of file is not ours to remove.
      if (lstatSync(admin.socketPath, { throwIfNoEntry: false })?.isSocket()) rmSync(admin.socketPath, { force: true });
    }
    const settings = this.#tls.place(this.#settings);
    writeWhole(file, bootstrap(settings, this.#location), user);
    this.resources.writeAll(settings);
    this.#tls.keepOnly(settings);
  }

  /**
   * What a running Envoy needs but was removed from disk: its admin socket, without which it cannot be controlled, or a
   * directory that it watches. Recreating the directory does not help, because Envoy watches the old one.
   */
  get lostFiles(): "admin" | "watched" | undefined {
    const { admin } = this.#location;
    if ("socketPath" in admin && !existsSync(admin.socketPath)) return "admin";
    const { listeners, clusters, routes, endpoints } = proxyFiles(this.#location);
    return [listeners, clusters, routes, endpoints].every((file) => existsSync(dirname(file))) ? undefined : "watched";
  }

  /**
   * Changes the settings. `apply` receives them as Envoy reads them. If it resolves with a reason or rejects, the
   * previous settings and files are restored. Resolves with the reason, undefined on success. Never rejects.
   */
  async change(
    settings: ProxySettings,
    apply: (settings: ProxySettings) => Promise<string | undefined>,
  ): Promise<string | undefined> {
    const before = this.#settings;
    // From here on a starting Envoy uses the new settings.
    this.#settings = settings;
    this.resources.begin();
    let reason: string | undefined;
    try {
      await this.#tls.load(settings);
      const placed = this.#tls.place(settings);
      reason = await apply(placed);
      if (reason === undefined) this.#tls.keepOnly(placed);
    } catch (error) {
      reason = messageOf(error);
    }
    if (reason === undefined) return undefined;
    this.#settings = before;
    try {
      this.resources.restore();
    } catch (error) {
      return `${reason}; and the previous files cannot be restored: ${messageOf(error)}`;
    }
    return reason;
  }

  /** Writes the files of these settings for the next Envoy. @throws Error of the system */
  writeChanged(settings: ProxySettings): void {
    if (!this.resources.isWritten) return;
    for (const kind of this.resources.changed(settings)) this.resources.replace(kind, settings);
  }
}
