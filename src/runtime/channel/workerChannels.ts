/** The ways in which one worker reports about itself: a pipe for a newline, sd_notify(3), or Einhorn's protocol. */
import { EinhornSocket } from "./einhornSocket.ts";
import type { NotifyChannel } from "./notifyChannel.ts";
import { NotifySocket } from "./notifySocket.ts";

/** How a worker reports that it is ready. */
export interface ReadinessChannel extends Disposable {
  /** Where it reports, for messages. */
  readonly through: string;
  /** Calls `notified` once, when the worker has reported. Disposal ends that. */
  listen(notified: () => void): void;
}

/** The sockets of a worker, opened before its spawn. */
export interface WorkerSockets extends Disposable {
  /** What its environment says about them. */
  readonly variables: Readonly<Record<string, string>>;
  readonly notify: NotifySocket | undefined;
  readonly einhorn: EinhornSocket | undefined;
}

/** The channels of a running worker. */
export interface WorkerChannels {
  readonly newline: NotifyChannel | undefined;
  readonly sockets: WorkerSockets | undefined;
}

/** Which sockets a worker has. The directory of the paths exists. */
export interface SocketPlan {
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
  /** For sd_notify. */
  readonly notify: { readonly path: string; readonly watchdogMs: number | undefined } | undefined;
  /** For Einhorn's protocol; `variables` describe the shared sockets. */
  readonly einhorn: { readonly path: string; readonly variables: Readonly<Record<string, string>> } | undefined;
}

/** Opens the sockets of a worker. @throws SystemCallError, Error of the system */
export function openWorkerSockets({ owner, notify, einhorn }: SocketPlan): WorkerSockets {
  using opened = new DisposableStack();
  const notifySocket = notify && opened.use(new NotifySocket(notify.path, owner));
  const einhornSocket = einhorn && opened.use(new EinhornSocket(einhorn.path, owner));
  const kept = opened.move();
  return {
    variables: {
      ...einhorn?.variables,
      ...(notify && { NOTIFY_SOCKET: notify.path }),
      ...(notify?.watchdogMs === undefined ? {} : { WATCHDOG_USEC: String(Math.round(notify.watchdogMs * 1000)) }),
    },
    notify: notifySocket,
    einhorn: einhornSocket,
    [Symbol.dispose]: () => kept.dispose(),
  };
}

/** The channel through which a worker reports that it is ready; undefined if it has none. */
export function readinessChannelOf({ newline, sockets }: WorkerChannels, pid: number): ReadinessChannel | undefined {
  const { notify, einhorn } = sockets ?? {};
  if (newline !== undefined)
    return {
      through: "MONOCEROS_NOTIFY_FD",
      listen: (notified) => newline.listen(notified),
      [Symbol.dispose]: () => newline[Symbol.dispose](),
    };
  if (einhorn !== undefined)
    return {
      through: "EINHORN_SOCK_PATH",
      listen: (notified) => einhorn.listen(pid, notified),
      [Symbol.dispose]: () => einhorn[Symbol.dispose](),
    };
  // It stays open: a worker also reports while it stops.
  if (notify !== undefined)
    return {
      through: "NOTIFY_SOCKET (READY=1)",
      listen: (ready) => notify.listen({ ready }),
      [Symbol.dispose]: () => notify.listen({ ready: undefined }),
    };
  return undefined;
}
