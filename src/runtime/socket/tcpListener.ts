/** Opens listening TCP sockets: of shared sockets, and of the admin port. */
import { isIP } from "node:net";
import { openListener, SystemCallError } from "../os/linux.ts";

/** Where to listen: an address, a name that is looked up, or "" for every address of the machine. */
export interface TcpTarget {
  readonly host: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
}

/**
 * Binds and listens; `host` of the result is the address that was bound. The descriptor is the caller's, close-on-exec
 * and not below `lowestFd`. Of the admin port this is 5 ms of a start quicker than listen() of node:net, which takes a
 * look whether the address is a link-local one of IPv6 and compiles a large pattern for that.
 * @throws SystemCallError, or the error of node:dns
 */
export async function openTcpListener(
  { host, port }: TcpTarget,
  backlog: number,
  lowestFd = 0,
): Promise<{ fd: number; host: string }> {
  if (host === "") {
    try {
      return { fd: openListener({ family: "IPv6", host: "::", port }, backlog, lowestFd), host: "::" };
    } catch (error) {
      // A machine without IPv6.
      const code = error instanceof SystemCallError ? error.code : undefined;
      if (code !== "EAFNOSUPPORT" && code !== "EADDRNOTAVAIL") throw error;
      return { fd: openListener({ family: "IPv4", host: "0.0.0.0", port }, backlog, lowestFd), host: "0.0.0.0" };
    }
  }
  const address = isIP(host) === 0 ? await lookUp(host) : host;
  const family = isIP(address) === 6 ? "IPv6" : "IPv4";
  return { fd: openListener({ family, host: address, port }, backlog, lowestFd), host: address };
}

async function lookUp(name: string): Promise<string> {
  const { lookup } = await import("node:dns/promises");
  return (await lookup(name)).address;
}
