/** Opens listening TCP sockets, for shared sockets and the admin port. */
import { isIP } from "node:net";
import { openListener, SystemCallError } from "../os/linux.ts";

/** Where to listen: an address, a name that is looked up, or "" for every address of the machine. */
export interface TcpTarget {
  readonly host: string;
  /** 0 lets the kernel choose. */
  readonly port: number;
}

/**
 * Binds and listens; `host` of the result is the bound address. The caller owns the descriptor, which is close-on-exec
 * and not below `lowestFd`. For the admin port, this makes a start 5 ms faster than listen() of node:net, which
 * compiles a large pattern to check for a link-local IPv6 address.
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
      // The machine has no IPv6.
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
