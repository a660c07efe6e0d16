/** A WebSocket that echoes (RFC 6455): text and binary messages come back frame by frame, pings become pongs. */

import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

const ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const OPCODE = { close: 8, ping: 9, pong: 10 } as const;
/** Close code of an endpoint that goes away. */
const GOING_AWAY = 1001;
const FRAME_LIMIT_BYTES = 64 * 1024 * 1024;

interface Frame {
  /** First byte: FIN and opcode. */
  readonly first: number;
  readonly payload: Buffer;
  /** Bytes of the whole frame. */
  readonly size: number;
}

/** Answers the upgrade, with more headers as given, and echoes until either side closes; returns how to end it. */
export function echoWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  headers: Readonly<Record<string, string>>,
): () => void {
  const key = request.headers["sec-websocket-key"];
  if (key === undefined) {
    socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    return () => {};
  }
  const accept = createHash("sha1").update(`${key}${ACCEPT_SUFFIX}`).digest("base64");
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n` +
      `sec-websocket-accept: ${accept}\r\n${lines.join("")}\r\n`,
  );
  let pending = head;
  const take = (chunk: Buffer): void => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    for (;;) {
      const frame = readFrame(pending);
      if (frame === undefined) return;
      pending = pending.subarray(frame.size);
      const opcode = frame.first & 0x0f;
      if (opcode === OPCODE.close) socket.end(makeFrame(frame.first, frame.payload));
      else if (opcode === OPCODE.ping) socket.write(makeFrame(0x80 | OPCODE.pong, frame.payload));
      else if (opcode !== OPCODE.pong) socket.write(makeFrame(frame.first, frame.payload));
    }
  };
  socket.on("error", () => {});
  socket.on("data", take);
  socket.on("end", () => socket.end());
  take(Buffer.alloc(0));
  return () => {
    const code = Buffer.alloc(2);
    code.writeUInt16BE(GOING_AWAY);
    socket.end(makeFrame(0x80 | OPCODE.close, code));
  };
}

/** The first whole frame in `bytes`, unmasked. A frame larger than the limit is never whole. */
function readFrame(bytes: Buffer): Frame | undefined {
  const [first, second] = bytes;
  if (first === undefined || second === undefined) return undefined;
  const isMasked = (second & 0x80) !== 0;
  let length = second & 0x7f;
  let at = 2;
  if (length === 126) {
    if (bytes.length < 4) return undefined;
    length = bytes.readUInt16BE(2);
    at = 4;
  } else if (length === 127) {
    if (bytes.length < 10) return undefined;
    length = Number(bytes.readBigUInt64BE(2));
    at = 10;
  }
  const start = at + (isMasked ? 4 : 0);
  if (length > FRAME_LIMIT_BYTES || bytes.length < start + length) return undefined;
  const payload = Buffer.from(bytes.subarray(start, start + length));
  if (isMasked)
    for (let index = 0; index < length; index++)
      payload[index] = (payload[index] ?? 0) ^ (bytes[at + (index & 3)] ?? 0);
  return { first, payload, size: start + length };
}

function makeFrame(first: number, payload: Buffer): Buffer {
  const { length } = payload;
  if (length < 126) return Buffer.concat([Buffer.from([first, length]), payload]);
  const head = Buffer.alloc(length < 65_536 ? 4 : 10);
  head[0] = first;
  head[1] = length < 65_536 ? 126 : 127;
  if (length < 65_536) head.writeUInt16BE(length, 2);
  else head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, payload]);
}
