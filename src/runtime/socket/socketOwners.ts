/**
 * Finds out whether the sockets that answer for a worker belong to its own processes or to a foreign process. Concurrent
 * queries share one reading of the kernel's tables, and a query inspects only processes of its worker, so its cost does not
 * grow with the machine. All of /proc is read only to name a foreign process.
 */

import { statSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { monotonicMs } from "../../base/monotonic.ts";
import { listNames, readProcText } from "../os/procFile.ts";
import { listPids, readCommandLine } from "../os/procfs.ts";
import type { ProbeAddress } from "../probe/attempt.ts";
import { type Descriptors, readDescriptors, socketInode, walkTree } from "./descriptors.ts";
import { readUnixListenerFiles } from "./socketDiag.ts";
import {
  formatListener,
  type ListeningSocket,
  reachableOnLoopback,
  readListeners,
  readUnixListeners,
  type SocketTable,
} from "./socketTable.ts";
import { waitsOn } from "./socketWaiters.ts";

/** Minimum age of the tables before they are read again, so that many queries share a reading. */
const READING_INTERVAL_MS = 20;

/** Queries and processes handled per turn of the event loop. */
const PER_TURN = 16;

/** How long the holder of a foreign socket is cached. */
const HOLDER_MS = 5000;

/** Owner of the listener at an address. */
export type Ownership =
  | { readonly kind: "owned" }
  /** No process listens there. */
  | { readonly kind: "none" }
  /** `holder` is a description of the process; "another process" if it cannot be found. */
  | { readonly kind: "foreign"; readonly holder: string }
  /** The worker's descriptors or the tables are unreadable, or no table of this network namespace has the listener. */
  | { readonly kind: "unknown"; readonly reason: "refused" | "unlisted" };

/** Whether a worker was seen waiting for connections. */
export type Serving = "serving" | "not seen" | "refused";

/** The worker of a query; one object per incarnation. */
export interface ExpectedOwner {
  /** The leader of the worker. */
  readonly leader: number;
  /** Leaders whose processes may answer as well: the other workers of a pool that shares a port. */
  readonly siblings?: () => readonly number[];
  /** Inodes of sockets that the controller itself has bound for the pool. */
  readonly shared?: ReadonlySet<string>;
}

/** Listening sockets by inode, as `127.0.0.1:80` or a path. */
export type Listening = ReadonlyMap<string, string>;

type Job = (table: SocketTable) => void;

export class SocketOwners {
  readonly #adoptedBy: (leader: number) => readonly number[];
  readonly #jobs: { readonly job: Job; readonly needsUnix: boolean }[] = [];
  /** Listeners proven to be the worker's, by address: while they are unchanged, no process is inspected. */
  readonly #proved = new WeakMap<ExpectedOwner, Map<string, string>>();
  /**
   * Workers of one process with one thread: their sockets, and the scheduler's statistics of that thread just before the
   * inspection (proc_pid_schedstat(5)). The statistics change as soon as the thread runs.
   */
  readonly #still = new WeakMap<ExpectedOwner, { readonly ran: string; readonly inodes: readonly string[] }>();
  readonly #holders = new Map<string, { readonly holder: string; readonly untilMs: number }>();
  #isScheduled = false;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #looks = 0;

  /** `adoptedBy` gives the processes of a worker that left its tree and were adopted by the controller. */
  constructor(adoptedBy: (leader: number) => readonly number[]) {
    this.#adoptedBy = adoptedBy;
  }

  /** The owner of the listener at `address`. */
  async judge(owner: ExpectedOwner, address: ProbeAddress): Promise<Ownership> {
    const isUnix = "path" in address;
    const listeners = await this.#ask(isUnix, (table) => listenersAt(address, table));
    if (listeners === "missing") return { kind: "none" };
    if (listeners === "unreadable") return { kind: "unknown", reason: "refused" };
    if (listeners.length === 0) return isUnix ? { kind: "unknown", reason: "unlisted" } : { kind: "none" };
    const proved = this.#proved.get(owner) ?? new Map<string, string>();
    this.#proved.set(owner, proved);
    const [where, which] = [isUnix ? address.path : String(address.port), listeners.join()];
    if (proved.get(where) === which) return { kind: "owned" };
    const { missing, isRefused } = this.#missing(owner, listeners);
    if (missing.length === 0) {
      proved.set(where, which);
      return { kind: "owned" };
    }
    if (isRefused) return { kind: "unknown", reason: "refused" };
    return { kind: "foreign", holder: await this.#nameHolder(missing[0] ?? "") };
  }

  /** Whether a process of the worker waits on one of the sockets that the controller has bound for its pool. */
  async isServing(owner: ExpectedOwner): Promise<Serving> {
    await this.#breathe();
    const { shared = new Set() } = owner;
    return this.#find(owner, (pid, held) => waitsOn(pid, held, shared));
  }

  /** Like listListening(), but reads the tables now. */
  listNow(): Listening | undefined {
    const [listeners, unix] = [readListeners(), readUnixListeners()];
    return listeners && unix && listeningIn({ tcp: byPort(listeners), unix });
  }

  /** All listening sockets; undefined if the tables cannot be read. */
  listListening(): Promise<Listening | undefined> {
    return this.#ask(true, (table) => (table.isComplete ? listeningIn(table) : undefined));
  }

  /** Which of these sockets the processes of the worker hold, and how long the inspection took. */
  async held(
    owner: ExpectedOwner,
    listening: Listening,
  ): Promise<{ readonly found: Listening; readonly isRefused: boolean; readonly tookMs: number }> {
    await this.#breathe();
    const startMs = monotonicMs();
    const { inodes, isRefused } = this.#socketsOf(owner);
    const found = new Map(
      inodes.flatMap((inode) => {
        const address = listening.get(inode);
        return address === undefined ? [] : [[inode, address] as const];
      }),
    );
    return { found, isRefused, tookMs: monotonicMs() - startMs };
  }

  /** The sockets that the processes of the worker hold. A worker that has not run since the last call is not inspected. */
  #socketsOf(owner: ExpectedOwner): { readonly inodes: readonly string[]; readonly isRefused: boolean } {
    const { leader } = owner;
    const ran = readProcText(`/proc/${leader}/schedstat`);
    const still = this.#still.get(owner);
    if (still !== undefined && still.ran === ran) return { inodes: still.inodes, isRefused: false };
    const inodes: string[] = [];
    let processes = 0;
    const serving = this.#find(owner, (_, held) => {
      processes++;
      for (const target of held.values()) {
        const inode = socketInode(target);
        if (inode !== undefined) inodes.push(inode);
      }
      return false;
    });
    const isRefused = serving === "refused";
    const isAlone = processes === 1 && !isRefused && listNames(`/proc/${leader}/task`).length === 1;
    // Zero means that the kernel does not measure it.
    if (isAlone && ran !== undefined && !ran.startsWith("0 ")) this.#still.set(owner, { ran, inodes });
    return { inodes, isRefused };
  }

  /** Yields to other work after every PER_TURN inspections. */
  async #breathe(): Promise<void> {
    this.#looks++;
    if (this.#looks % PER_TURN === 0) await turn();
  }

  /** Where the processes of a worker listen; undefined if that cannot be determined. */
  async listeningOf(owner: ExpectedOwner): Promise<readonly string[] | undefined> {
    const listening = await this.listListening();
    if (listening === undefined) return undefined;
    const { found, isRefused } = await this.held(owner, listening);
    return isRefused && found.size === 0 ? undefined : [...new Set(found.values())];
  }

  /** Inodes of the `listeners` that no process of the worker holds. */
  #missing(owner: ExpectedOwner, listeners: readonly string[]): { missing: readonly string[]; isRefused: boolean } {
    const missing = new Set(listeners.filter((inode) => !owner.shared?.has(inode)));
    let isRefused = false;
    const look = (leader: number) => {
      for (const pid of this.#processesOf(leader)) {
        if (missing.size === 0) return;
        const held = readDescriptors(pid);
        if (held === "refused") isRefused = true;
        else for (const target of held.values()) missing.delete(socketInode(target) ?? "");
      }
    };
    look(owner.leader);
    if (missing.size > 0) for (const sibling of owner.siblings?.() ?? []) look(sibling);
    return { missing: [...missing], isRefused };
  }

  #find(owner: ExpectedOwner, matches: (pid: number, held: Exclude<Descriptors, "refused">) => boolean): Serving {
    let isRefused = false;
    for (const pid of this.#processesOf(owner.leader)) {
      const held = readDescriptors(pid);
      if (held === "refused") isRefused = true;
      else if (matches(pid, held)) return "serving";
    }
    return isRefused ? "refused" : "not seen";
  }

  /** The leader first, because it is usually the holder. */
  *#processesOf(leader: number): Generator<number> {
    yield* walkTree(leader);
    for (const adopted of this.#adoptedBy(leader)) yield* walkTree(adopted);
  }

  /** Runs `job` on tables that are read after this call. */
  #ask<T>(needsUnix: boolean, job: (table: SocketTable) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#jobs.push({
        needsUnix,
        job: (table) => {
          try {
            resolve(job(table));
          } catch (error) {
            reject(error);
          }
        },
      });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const waitMs = this.#readAtMs + READING_INTERVAL_MS - monotonicMs();
    const run = () => void this.#answer();
    if (waitMs <= 0) setImmediate(run);
    else setTimeout(run, waitMs).unref();
  }

  async #answer(): Promise<void> {
    this.#readAtMs = monotonicMs();
    const jobs = this.#jobs.splice(0);
    const listeners = readListeners();
    const tcp = byPort(listeners ?? []);
    const unix = jobs.some(({ needsUnix }) => needsUnix) ? readUnixListeners() : [];
    const isComplete = listeners !== undefined && unix !== undefined;
    let files: ReturnType<SocketTable["unixFiles"]> | "unread" = "unread";
    const unixFiles = () => {
      if (files === "unread") files = readUnixListenerFiles();
      return files;
    };
    for (const [index, { job }] of jobs.entries()) {
      if (index > 0 && index % PER_TURN === 0) await turn();
      job({ tcp, unix: unix ?? [], unixFiles, isComplete });
    }
    this.#isScheduled = false;
    if (this.#jobs.length > 0) this.#schedule();
  }

  /** Description of the process that holds the socket with this inode. */
  async #nameHolder(inode: string): Promise<string> {
    const known = this.#holders.get(inode);
    if (known !== undefined && known.untilMs > monotonicMs()) return known.holder;
    const holder = (await findHolder(inode)) ?? "another process";
    for (const [other, { untilMs }] of this.#holders) if (untilMs <= monotonicMs()) this.#holders.delete(other);
    this.#holders.set(inode, { holder, untilMs: monotonicMs() + HOLDER_MS });
    return holder;
  }
}

function byPort(listeners: readonly ListeningSocket[]): SocketTable["tcp"] {
  return Map.groupBy(listeners, ({ port }) => port);
}

function listeningIn({ tcp, unix }: Pick<SocketTable, "tcp" | "unix">): Listening {
  const listening = new Map(unix.map(({ inode, path }) => [inode, path]));
  for (const sockets of tcp.values()) for (const socket of sockets) listening.set(socket.inode, formatListener(socket));
  return listening;
}

function listenersAt(
  address: ProbeAddress,
  { tcp, unix, unixFiles, isComplete }: SocketTable,
): readonly string[] | "missing" | "unreadable" {
  if ("path" in address) {
    const file = statSync(address.path, { throwIfNoEntry: false, bigint: true });
    if (file === undefined) return "missing";
    const { major, minor } = splitDevice(file.dev);
    const onDevice = unixFiles()?.filter((each) => each.major === major && each.minor === minor) ?? [];
    const bound = onDevice.filter(({ fileInode }) => BigInt(fileInode) === (file.ino & 0xffffffffn));
    if (bound.length > 0) return bound.map(({ inode }) => String(inode));
    // The file's socket no longer listens. A layered file system shows other devices than the kernel knows.
    if (onDevice.length > 0) return "missing";
    return unix.filter(({ path }) => path === address.path).map(({ inode }) => inode);
  }
  return isComplete ? reachableOnLoopback(address.port, tcp).map(({ inode }) => inode) : "unreadable";
}

/** The numbers of a device as stat(2) encodes them (makedev(3)). */
function splitDevice(device: bigint): { major: number; minor: number } {
  return {
    major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn)),
    minor: Number((device & 0xffn) | ((device >> 12n) & 0xffffff00n)),
  };
}

async function findHolder(inode: string): Promise<string | undefined> {
  for (const [index, pid] of listPids().entries()) {
    if (index % PER_TURN === 0) await turn();
    const held = readDescriptors(pid);
    if (held !== "refused" && held.values().some((target) => socketInode(target) === inode))
      return `pid ${pid} (${readCommandLine(pid) ?? "?"})`;
  }
  return undefined;
}
