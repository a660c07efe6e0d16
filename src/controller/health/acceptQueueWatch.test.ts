import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../../base/time.ts";
import { EMPTY_QUEUE, foldQueue } from "../../core/policy/acceptQueue.ts";
import { describeStall } from "./acceptQueueWatch.ts";

const SOCKET = { name: "http", address: "0.0.0.0:80" };

/** The queue of a socket in which the same connections have waited since 1000. */
function heldQueue(...connections: readonly string[]) {
  return foldQueue(EMPTY_QUEUE, { at: instant(1000), length: connections.length, waiting: new Set(connections) });
}

test("a stall is described with its socket, duration and connections", () => {
  assert.equal(
    describeStall(SOCKET, heldQueue("1"), instant(7900), false),
    'no worker has accepted a connection from socket "http" (0.0.0.0:80) for 6s; 1 connection is waiting',
  );
  assert.match(describeStall(SOCKET, heldQueue("1", "2"), instant(7900), false) ?? "", /; 2 connections are waiting$/u);
});

test("workers that were seen waiting may be busy for 30 seconds, others for 5", () => {
  const state = heldQueue("1");
  assert.equal(describeStall(SOCKET, state, instant(5999), false), undefined);
  assert.notEqual(describeStall(SOCKET, state, instant(6000), false), undefined);
  assert.equal(describeStall(SOCKET, state, instant(30_999), true), undefined);
  assert.notEqual(describeStall(SOCKET, state, instant(31_000), true), undefined);
});

test("an empty queue, and one whose connections are unknown, is no stall", () => {
  for (const length of [0, 3]) {
    const state = foldQueue(EMPTY_QUEUE, { at: instant(1000), length, waiting: undefined });
    assert.equal(describeStall(SOCKET, state, instant(99_000), false), undefined);
  }
});
