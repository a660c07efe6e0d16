/** What is known about the process of a worker, from its exec until its last process has exited. */
import type { WorkerRef } from "../../core/identity.ts";
import type { WorkerChannels } from "../channel/workerChannels.ts";
import type { Origin } from "./adoptions.ts";
import type { PoolLaunch } from "./poolLaunch.ts";

/** Reads the output of one incarnation; owns both descriptors. */
export interface OutputReader {
  /** Call when the whole group has exited: reads the remaining output and closes. */
  finish(): void;
}

export interface WorkerProcess extends Origin, WorkerRef {
  readonly launch: PoolLaunch;
  readonly output: OutputReader | undefined;
  readonly channels: WorkerChannels;
  /** By monotonicMs(); undefined while the leader is alive. */
  leaderExitedAtMs: number | undefined;
  /** Signal for each process found outside the group; undefined until a stop begins. */
  stopSignal: string | undefined;
  /** Processes that were sent it. */
  readonly signaled: Set<number>;
}
