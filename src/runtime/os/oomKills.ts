/**
 * Processes of this control group that the kernel killed because memory ran out, from the group's own counter:
 * memory.oom_control in version 1, memory.events in version 2.
 */
import { groupDirectories, memoryBoundBytes, type ReadText } from "./cgroup.ts";
import { readText } from "./procFile.ts";

export class OomKills {
  readonly #read: ReadText;
  readonly #file: string | undefined;
  readonly #first: number;
  /** The counter value up to which kills are explained. */
  #explained: number;
  /** The counter value at the last call of takeUnclaimed(). */
  #lastLook: number;

  constructor(read: ReadText = readText) {
    this.#read = read;
    this.#file = groupDirectories("memory", ["memory"], read)
      .map(({ version, path }) => `${path}/${version === 2 ? "memory.events" : "memory.oom_control"}`)
      .find((file) => countIn(read(file)) !== undefined);
    this.#first = this.#count() ?? 0;
    this.#explained = this.#first;
    this.#lastLook = this.#first;
  }

  /** Kills since the start; undefined if the kernel does not count them. */
  get total(): number | undefined {
    const count = this.#count();
    return count === undefined ? undefined : count - this.#first;
  }

  /** Whether a process that was just killed by SIGKILL may be one of these kills. Each kill is claimed once. */
  claim(): boolean {
    if ((this.#count() ?? 0) <= this.#explained) return false;
    this.#explained++;
    return true;
  }

  /** Kills counted at the previous call that no worker's exit has claimed since. Call it periodically. */
  takeUnclaimed(): number {
    const unclaimed = Math.max(0, this.#lastLook - this.#explained);
    this.#explained += unclaimed;
    this.#lastLook = this.#count() ?? this.#lastLook;
    return unclaimed;
  }

  /** The memory limit that all processes of the group share; undefined if there is none. */
  get limitBytes(): number | undefined {
    return memoryBoundBytes(this.#read);
  }

  #count(): number | undefined {
    return this.#file === undefined ? undefined : countIn(this.#read(this.#file));
  }
}

function countIn(text: string | undefined): number | undefined {
  const count = /^oom_kill (\d+)$/mu.exec(text ?? "")?.[1];
  return count === undefined ? undefined : Number(count);
}
