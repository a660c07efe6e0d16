/** The lifetime of one Envoy process; all waits for it end with it. */
import { after } from "../../base/time.ts";
import type { AdminPlace } from "../resources/settings.ts";
import { AdminClient } from "./adminClient.ts";
import type { Clock } from "./clock.ts";

/** An Envoy process from spawn to exit, and its admin interface. */
export class EnvoyRun implements Disposable {
  readonly incarnation: number;
  readonly admin: AdminClient;
  /** Whether the listener accepts connections. */
  isServing = false;
  /** Percentage of endpoints that this Envoy may eject, as last set. */
  maxEjectionPercent: number | undefined;
  #isOver = false;
  readonly #clock: Clock;
  readonly #pauses = new Set<() => void>();

  constructor(incarnation: number, place: AdminPlace, clock: Clock) {
    this.incarnation = incarnation;
    this.admin = new AdminClient(place);
    this.#clock = clock;
  }

  get isOver(): boolean {
    return this.#isOver;
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

  [Symbol.dispose](): void {
    this.#isOver = true;
    this.admin[Symbol.dispose]();
    this.wake();
  }
}
