/**
 * Finds out whether workers without readiness probes serve: whether they wait on a shared socket of their pool, or listen
 * on a socket of their own, until they close it.
 */
import type { WorkerRef } from "../../core/identity.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Daemon } from "../../runtime/daemon.ts";
import type { ProbeListener, Prober, ProbeTarget } from "../../runtime/probe/prober.ts";
import type { SocketOwners } from "../../runtime/socket/socketOwners.ts";
import type { SharedSocket } from "../../runtime/socket/sockets.ts";
import { ClosedListenerWatch } from "./closedListenerWatch.ts";
import { ListeningWatch } from "./listeningWatch.ts";
import { servingProbe } from "./probeTargets.ts";
import type { ReadinessGate } from "./readinessGate.ts";
import type { ReadinessReports } from "./readinessReports.ts";
import { unseenReason } from "./waitReasons.ts";

const IGNORED = () => {};

export class ServingObserver implements Disposable {
  readonly #sharedSockets: Prober;
  readonly #listening: ListeningWatch;
  readonly #closed: ClosedListenerWatch;

  constructor(options: {
    clock: Clock;
    owners: SocketOwners;
    daemon: Pick<Daemon, "specOf">;
    gate: ReadinessGate;
    reports: ReadinessReports;
    newProber: (listener: ProbeListener) => Prober;
  }) {
    const { clock, owners, gate, reports, newProber, daemon } = options;
    this.#sharedSockets = newProber({
      becameReady: (worker) => gate.withdraw(worker, "readiness"),
      attempted: (worker, _, outcome) => {
        if (outcome.kind !== "success")
          reports.note(worker, unseenReason(outcome.reason, daemon.specOf(worker.pool).readiness));
      },
      becameUnready: IGNORED,
      startupFailed: IGNORED,
      livenessFailed: IGNORED,
      becameAlive: IGNORED,
    });
    this.#listening = new ListeningWatch({
      clock,
      owners,
      listens: (worker, owner, found) => {
        this.#closed.watch(worker, owner, found);
        gate.withdraw(worker, "readiness");
        gate.withdraw(worker, "closed");
      },
    });
    this.#closed = new ClosedListenerWatch({
      clock,
      owners,
      closed: (worker, owner, addresses) => {
        const reason = `it listened on ${addresses.join(", ")}, and none of its processes listens any more`;
        gate.object(worker, "closed", reason);
        this.#listening.watch(worker, owner);
      },
    });
  }

  /** Call before the first worker is spawned. */
  begin(): void {
    this.#listening.begin();
  }

  /** `sockets` are the shared sockets of the worker's pool. */
  watch(target: ProbeTarget, sockets: readonly SharedSocket[]): void {
    if (sockets.length === 0) {
      this.#listening.watch(target, target.owner);
      return;
    }
    const startup = servingProbe(sockets.map(({ name, address }) => ({ name, address })));
    const probes = { startup, readiness: undefined, liveness: undefined, readinessChannel: undefined };
    this.#sharedSockets.watch({ ...target, ...probes });
  }

  /** The worker is ready: only its own listeners are watched further. */
  becameReady(worker: WorkerRef): void {
    this.#sharedSockets.forget(worker);
  }

  forget(worker: WorkerRef): void {
    this.#sharedSockets.forget(worker);
    this.#listening.forget(worker);
    this.#closed.forget(worker);
  }

  [Symbol.dispose](): void {
    this.#sharedSockets.close();
    this.#listening[Symbol.dispose]();
    this.#closed[Symbol.dispose]();
  }
}
