/**
 * Starts processes one after another without waiting for each exec: their programs are executed while the driver does
 * other work. The result of each start becomes an event.
 */

import { InvariantError, messageOf } from "../../base/errors.ts";
import type { ControllerEffect, ControllerEvent } from "../../core/controller.ts";
import type { WorkerRef } from "../../core/identity.ts";
import type { WorkerEvent } from "../../core/worker/event.ts";
import type { Clock } from "../clock.ts";

/** Starts the processes of workers. */
export interface ProcessStarter {
  /** Starts a process. The returned function waits for its exec and returns its pid. Both throw if the start fails. */
  begin(worker: WorkerRef, revision: number): () => number;
}

/** Limit of processes that are begun but not yet confirmed. */
const MAX_UNCONFIRMED = 4;

export class Spawns {
  /** The results, to be handled before any other event, because later events may concern the processes. */
  readonly results: ControllerEvent[] = [];
  readonly #clock: Clock;
  readonly #random: () => number;
  /** For each begun process, oldest first: waits for its exec and adds the result. */
  readonly #begun: (() => void)[] = [];

  constructor(clock: Clock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
  }

  /** Starts a process, and confirms the oldest ones if too many are unconfirmed. */
  begin(processes: ProcessStarter, effect: Extract<ControllerEffect, { kind: "spawn" }>): void {
    const { pool, slot, incarnation, revision } = effect;
    const random = this.#random();
    let confirm: () => number;
    try {
      confirm = processes.begin(effect, revision);
    } catch (error) {
      confirm = () => {
        throw error;
      };
    }
    this.#begun.push(() => {
      let event: WorkerEvent;
      try {
        event = { kind: "spawned", at: this.#clock.now(), incarnation, pid: confirm(), random };
      } catch (error) {
        if (error instanceof InvariantError) throw error;
        event = { kind: "spawnFailed", at: this.#clock.now(), incarnation, reason: messageOf(error), random };
      }
      this.results.push({ kind: "worker", pool, slot, event, random });
    });
    this.#confirm(MAX_UNCONFIRMED);
  }

  /**
   * Waits for all begun processes. Before that, only another spawn may happen: no signal, no exit, and no other turn of
   * the event loop.
   */
  confirmAll(): void {
    this.#confirm(0);
  }

  /** Confirms all processes despite a bug, and forgets the results. Returns the pids of all processes that started. */
  abandon(): number[] {
    while (this.#begun.length > 0) {
      try {
        this.#confirm(0);
      } catch {
        // The same bug again: one report is enough.
      }
    }
    const results = this.results.splice(0);
    return results.flatMap((result) =>
      result.kind === "worker" && result.event.kind === "spawned" ? [result.event.pid] : [],
    );
  }

  #confirm(left: number): void {
    while (this.#begun.length > left) this.#begun.shift()?.();
  }
}
