/**
 * The files that depend only on the settings: routes, listener and cluster. Keeps what was written last and finds the
 * files that new settings change. Each content has its own version, so Envoy can report which one it accepted.
 */
import { dirname } from "node:path";
import type { ResourceKind } from "../reading/resourceStates.ts";
import { CLUSTER_TYPE, cluster } from "../resources/cluster.ts";
import { type ProxyFiles, resourceFile } from "../resources/files.ts";
import type { JsonObject } from "../resources/json.ts";
import { LISTENER_TYPE, listener, ROUTES_TYPE, routes } from "../resources/listener.ts";
import type { ProxySettings, ProxyUser } from "../resources/settings.ts";
import { makeReadable, writeWhole } from "./privateFiles.ts";

/**
 * In the order of replacement. Routes come first, because a new listener reads their file. The listener, which Envoy
 * most likely rejects, comes before the cluster, which is the most expensive to replace.
 */
const KINDS: readonly ResourceKind[] = ["routes", "listener", "cluster"];

/** One version of a file. */
interface Written {
  readonly version: string;
  readonly resource: JsonObject;
}

export class ResourceFiles {
  readonly #files: ProxyFiles;
  readonly #user: ProxyUser | undefined;
  readonly #written = new Map<ResourceKind, Written>();
  /** Versions replaced since begin(). */
  readonly #before = new Map<ResourceKind, Written>();
  #versions = 0;

  /** `user` is the user that Envoy runs as, if not the controller's. */
  constructor(files: ProxyFiles, user?: ProxyUser) {
    this.#files = files;
    this.#user = user;
  }

  /** Whether there are files that Envoy may have read. */
  get isWritten(): boolean {
    return this.#written.size > 0;
  }

  /** Writes all files, changed ones as a new version. @throws Error of the system */
  writeAll(settings: ProxySettings): void {
    const changed = this.changed(settings);
    for (const kind of KINDS) {
      makeReadable(dirname(this.#fileOf(kind)), this.#user);
      if (changed.includes(kind)) this.replace(kind, settings);
      else this.rewrite(kind);
    }
  }

  /** The files that `settings` would change, in the order of replacement. */
  changed(settings: ProxySettings): ResourceKind[] {
    return KINDS.filter((kind) => {
      const written = this.#written.get(kind);
      return JSON.stringify(written?.resource) !== JSON.stringify(this.#resourceOf(kind, settings));
    });
  }

  /** Starts recording replacements, so that restore() can undo them. */
  begin(): void {
    this.#before.clear();
  }

  /** Writes the resource for `settings` and returns its version. @throws Error of the system */
  replace(kind: ResourceKind, settings: ProxySettings): string {
    const before = this.#written.get(kind);
    const next = { version: String(this.#versions + 1), resource: this.#resourceOf(kind, settings) };
    this.#write(kind, next);
    this.#versions += 1;
    this.#written.set(kind, next);
    if (before !== undefined && !this.#before.has(kind)) this.#before.set(kind, before);
    return next.version;
  }

  /** Writes the current version again, because Envoy missed the change. @throws Error of the system */
  rewrite(kind: ResourceKind): void {
    const written = this.#written.get(kind);
    if (written !== undefined) this.#write(kind, written);
  }

  /** Restores all files replaced since begin(), the latest first. @throws Error of the system, the last one */
  restore(): void {
    const replaced = [...this.#before].toReversed();
    this.#before.clear();
    // Recorded first: the next start uses these versions even if they cannot be written now.
    for (const [kind, before] of replaced) this.#written.set(kind, before);
    let failure: unknown;
    for (const [kind, before] of replaced) {
      try {
        this.#write(kind, before);
      } catch (error) {
        failure = error;
      }
    }
    if (failure !== undefined) throw failure;
  }

  #write(kind: ResourceKind, { version, resource }: Written): void {
    writeWhole(this.#fileOf(kind), resourceFile(version, TYPES[kind], [resource]), this.#user);
  }

  #fileOf(kind: ResourceKind): string {
    return this.#files[PATHS[kind]];
  }

  #resourceOf(kind: ResourceKind, settings: ProxySettings): JsonObject {
    switch (kind) {
      case "routes":
        return routes(settings);
      case "listener":
        return listener(settings, this.#files.routes);
      case "cluster":
        return cluster(settings, this.#files.endpoints);
    }
  }
}

const TYPES: Readonly<Record<ResourceKind, string>> = {
  routes: ROUTES_TYPE,
  listener: LISTENER_TYPE,
  cluster: CLUSTER_TYPE,
};

const PATHS = { routes: "routes", listener: "listeners", cluster: "clusters" } as const;
