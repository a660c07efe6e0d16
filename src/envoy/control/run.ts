/** The lifetime of one Envoy process; all waits for it end with it. */
import { after, type Clock } from "../../base/time.ts";
import type { AdminAddress } from "../resources/settings.ts";
import { AdminClient } from "./adminClient.ts";

/** Polling interval until Envoy accepts a command. */
const FIRST_RETRY_MS = 10;
const LAST_RETRY_MS = 100;

/** An Envoy process from spawn to exit, and its admin interface. */
export class EnvoyRun implements Disposable {
  readonly incarnation: number;
  readonly admin: AdminClient;
  /** Percentage of endpoints that this Envoy may eject, as last set. */
  maxEjectionPercent: number | undefined;
  /** Serving: the listener accepts connections. Over: the process has exited, or is no longer of interest. */
  #phase: "starting" | "serving" | "over" = "starting";
  readonly #clock: Clock;
  readonly #pauses = new Set<() => void>();

  constructor(incarnation: number, address: AdminAddress, clock: Clock) {
    this.incarnation = incarnation;
    this.admin = new AdminClient(address);
    this.#clock = clock;
  }

  get isStarting(): boolean {
    return this.#phase === "starting";
  }

  get isServing(): boolean {
    return this.#phase === "serving";
  }

  get isOver(): boolean {
    return this.#phase === "over";
  }

  /** The listener accepts connections. */
  serve(): void {
    this.#phase = "serving";
  }

  /** Waits for `ms`, or until the run ends or is woken. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        timer[Symbol.dispose]();
        this.#pauses.delete(wake);
        resolve();
      };
      const timer = this.#clock.wakeAt(after(this.#clock.now(), ms), wake);
      this.#pauses.add(wake);
    });
  }

  /** Ends all pauses. */
  wake(): void {
    for (const wake of [...this.#pauses]) wake();
  }

  /** Repeats a command until it succeeds or the run is over. */
  async insist(command: () => Promise<void>): Promise<void> {
    for (let waitMs = FIRST_RETRY_MS; !this.isOver; waitMs = Math.min(waitMs * 2, LAST_RETRY_MS)) {
      const isDone = await command().then(
        () => true,
        () => false,
      );
      if (isDone) return;
      await this.pause(waitMs);
    }
  }

  [Symbol.dispose](): void {
    this.#phase = "over";
    this.admin[Symbol.dispose]();
    this.wake();
  }
}
