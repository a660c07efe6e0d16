/** Node.js has no public way from a connection to its descriptor. */
import type { Socket } from "node:net";

/** The descriptor of an open connection; undefined if it is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { readonly _handle?: { readonly fd?: number } | null };
  const fd = handle?.fd ?? -1;
  return fd < 0 ? undefined : fd;
}
