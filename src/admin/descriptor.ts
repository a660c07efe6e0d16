/** Node.js has no public API that returns the descriptor of a connection. */
import type { Socket } from "node:net";

/** The descriptor of an open connection; undefined if it is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } | null };
  const fd = handle?.fd ?? -1;
  return fd < 0 ? undefined : fd;
}
