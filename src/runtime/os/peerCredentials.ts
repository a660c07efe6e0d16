/**
 * Identifies the process at the other end of a Unix socket. Separate from linux.ts, so that CLI commands, which need no
 * other system calls, do not load all of that file.
 */
import ffi from "node:ffi";

const { functions: libc } = ffi.dlopen(null, {
  getsockopt: { arguments: ["i32", "i32", "i32", "pointer", "pointer"], return: "i32" },
});

const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
/** struct ucred: pid, uid, gid. */
const UCRED_BYTES = 12;

/** The peer as of its connect() or listen() (unix(7), SO_PEERCRED); undefined if the socket is closed. */
export function readPeer(fd: number): { readonly pid: number; readonly uid: number; readonly gid: number } | undefined {
  // The length, an in-out argument, follows the struct.
  const bytes = Buffer.alloc(UCRED_BYTES + 4);
  bytes.writeUInt32LE(UCRED_BYTES, UCRED_BYTES);
  const address = ffi.getRawPointer(bytes);
  const failed = libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, address, address + BigInt(UCRED_BYTES)) !== 0;
  if (failed || bytes.readUInt32LE(UCRED_BYTES) !== UCRED_BYTES) return undefined;
  return { pid: bytes.readInt32LE(0), uid: bytes.readUInt32LE(4), gid: bytes.readUInt32LE(8) };
}
