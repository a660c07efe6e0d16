/**
 * Reads sockets through sock_diag(7), which lists listening sockets without walking through all connections; that takes
 * milliseconds in /proc/net/tcp. All functions return undefined if the kernel or a sandbox refuses.
 */
import { querySockets } from "../os/linux.ts";

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const IPPROTO_TCP = 6;
const SOCK_DIAG_BY_FAMILY = 20;
const NLM_F_REQUEST = 1;
const NLM_F_DUMP = 0x300;
/** State in the kernel's numbering, for Unix sockets too. */
const TCP_LISTEN = 10;
const UDIAG_SHOW_VFS = 2;
const UDIAG_SHOW_ICONS = 8;
const UDIAG_SHOW_RQLEN = 16;
const UNIX_DIAG_VFS = 1;
const UNIX_DIAG_ICONS = 3;
const UNIX_DIAG_RQLEN = 4;

/** Offsets in struct inet_diag_msg after struct nlmsghdr. */
const INET_PORT = 16 + 4;
const INET_ADDRESS = 16 + 8;
const INET_INODE = 16 + 68;
const INET_BYTES = 16 + 72;

/** A listening TCP socket. */
export interface TcpListener {
  /** 4 or 16 bytes in network order. */
  readonly address: Uint8Array;
  readonly port: number;
  readonly inode: number;
}

/** All listening TCP sockets of this network namespace. */
export function readTcpListeners(): readonly TcpListener[] | undefined {
  const found: TcpListener[] = [];
  for (const family of [AF_INET, AF_INET6]) {
    const messages = querySockets(tcpRequest(family), true);
    if (messages === undefined) return undefined;
    for (const message of messages) {
      if (message.length < INET_BYTES) return undefined;
      const length = family === AF_INET ? 4 : 16;
      found.push({
        address: message.subarray(INET_ADDRESS, INET_ADDRESS + length),
        port: message.readUInt16BE(INET_PORT),
        inode: message.readUInt32LE(INET_INODE),
      });
    }
  }
  return found;
}

/** struct nlmsghdr, then struct inet_diag_req_v2. */
function tcpRequest(family: number): Buffer {
  const request = header(72, NLM_F_REQUEST | NLM_F_DUMP);
  request.writeUInt8(family, 16);
  request.writeUInt8(IPPROTO_TCP, 17);
  request.writeUInt32LE(1 << TCP_LISTEN, 20);
  return request;
}

/** A listening Unix socket, and the file that it is bound to. */
export interface UnixListenerFile {
  readonly inode: number;
  readonly fileInode: number;
  readonly major: number;
  readonly minor: number;
}

/**
 * All Unix sockets that listen on a file, with the identity of the file. A name does not identify it, because the file
 * may have been removed, replaced, or bound by another name.
 */
export function readUnixListenerFiles(): readonly UnixListenerFile[] | undefined {
  const request = unixRequest(NLM_F_REQUEST | NLM_F_DUMP, 1 << TCP_LISTEN, 0, UDIAG_SHOW_VFS);
  return querySockets(request, true)?.flatMap((message) => parseUnixFile(message) ?? []);
}

/** Connections waiting to be accepted on a listening Unix socket. */
export interface UnixQueue {
  readonly length: number;
  /** Inodes of the waiting connections at the head of the queue. */
  readonly inodes: readonly number[];
}

/** The queue of the Unix socket with this inode. */
export function readUnixQueue(inode: number): UnixQueue | undefined {
  const request = unixRequest(NLM_F_REQUEST, 0xffffffff, inode, UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN);
  const answer = querySockets(request, false)?.[0];
  return answer === undefined || answer.length < 32 ? undefined : parseUnixQueue(answer);
}

/** struct nlmsghdr, then struct unix_diag_req. */
function unixRequest(flags: number, states: number, inode: number, show: number): Buffer {
  const request = header(40, flags);
  request.writeUInt8(AF_UNIX, 16);
  request.writeUInt32LE(states >>> 0, 20);
  request.writeUInt32LE(inode, 24);
  request.writeUInt32LE(show, 28);
  // No cookie.
  request.fill(0xff, 32, 40);
  return request;
}

function header(length: number, flags: number): Buffer {
  const request = Buffer.alloc(length);
  request.writeUInt32LE(length, 0);
  request.writeUInt16LE(SOCK_DIAG_BY_FAMILY, 4);
  request.writeUInt16LE(flags, 6);
  return request;
}

function parseUnixFile(message: Buffer): UnixListenerFile | undefined {
  if (message.length < 32) return undefined;
  const inode = message.readUInt32LE(20);
  for (const { type, at } of unixAttributes(message)) {
    if (type !== UNIX_DIAG_VFS) continue;
    // The kernel's own encoding of a device: 12 bits of the major number, 20 of the minor one.
    const device = message.readUInt32LE(at + 4);
    return { inode, fileInode: message.readUInt32LE(at), major: device >>> 20, minor: device & 0xfffff };
  }
  return undefined;
}

function parseUnixQueue(answer: Buffer): UnixQueue | undefined {
  let length: number | undefined;
  const inodes: number[] = [];
  for (const { type, at, end } of unixAttributes(answer)) {
    if (type === UNIX_DIAG_RQLEN) length = answer.readUInt32LE(at);
    if (type === UNIX_DIAG_ICONS)
      for (let each = at; each + 4 <= end; each += 4) inodes.push(answer.readUInt32LE(each));
  }
  return length === undefined ? undefined : { length, inodes };
}

/** The attributes after struct nlmsghdr and struct unix_diag_msg, each aligned to 4 bytes. */
function* unixAttributes(message: Buffer): Generator<{ type: number; at: number; end: number }> {
  for (let at = 32; at + 4 <= message.length; ) {
    const size = message.readUInt16LE(at);
    if (size < 4) return;
    yield { type: message.readUInt16LE(at + 2), at: at + 4, end: Math.min(at + size, message.length) };
    at += (size + 3) & ~3;
  }
}
