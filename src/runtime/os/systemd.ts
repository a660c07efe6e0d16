/** sd_notify(3): notifies a service manager that the controller is ready, alive or stopping. */
import { SystemCallError, sendDatagram } from "./linux.ts";

/** Interval between attempts to send to a manager that does not read its messages. */
const RETRY_MS = 100;

/**
 * Whether systemd runs this process as the main process of a unit. The second check is for versions before 248; it
 * needs the ppid because all descendants of a unit inherit INVOCATION_ID.
 */
export function isServiceMain(
  { SYSTEMD_EXEC_PID, INVOCATION_ID }: Readonly<Record<string, string | undefined>>,
  { pid, ppid }: { readonly pid: number; readonly ppid: number },
): boolean {
  return SYSTEMD_EXEC_PID === String(pid) || (INVOCATION_ID !== undefined && ppid === 1);
}

/** Notifies the manager named by NOTIFY_SOCKET; does nothing without one. */
export class ServiceManager {
  readonly #socket: string | undefined;
  readonly #watchdogMs: number | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(environment: NodeJS.ProcessEnv, pid: number) {
    const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = environment as Readonly<Record<string, string | undefined>>;
    this.#socket = NOTIFY_SOCKET === "" ? undefined : NOTIFY_SOCKET;
    const forUs = WATCHDOG_PID === undefined || WATCHDOG_PID === String(pid);
    const periodMs = Number(WATCHDOG_USEC) / 1000;
    this.#watchdogMs = forUs && periodMs > 0 ? periodMs : undefined;
  }

  /** Sends READY=1, then WATCHDOG=1 twice per period if the manager requested it. */
  ready(status: string): void {
    this.#send(`READY=1\nSTATUS=${status}`);
    if (this.#watchdogMs === undefined || this.#socket === undefined) return;
    this.#timer = setInterval(() => this.#send("WATCHDOG=1"), this.#watchdogMs / 2);
  }

  /** Sends STOPPING=1. The watchdog continues until `close`, so that a long shutdown is not mistaken for a hang. */
  stopping(): void {
    this.#send("STOPPING=1\nSTATUS=shutting down");
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #send(text: string): void {
    if (this.#socket === undefined) return;
    try {
      sendDatagram(this.#socket, text);
    } catch (error) {
      // If the manager does not read its messages at the moment, waiting would stop the controller. Otherwise it is
      // unreachable, and the controller cannot do anything about it.
      if (error instanceof SystemCallError && error.code === "EAGAIN")
        setTimeout(() => this.#send(text), RETRY_MS).unref();
    }
  }
}
