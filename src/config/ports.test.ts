import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "./load.ts";
import { findPortProblems } from "./ports.ts";

function problemsOf(text: string): readonly string[] {
  const parsed = parseConfig(text, "c.yaml", {});
  return parsed.ok ? [] : parsed.problems.map(({ path, message }) => `${path}: ${message}`);
}

function server(name: string, startPort: number, listenerPort: number, more = ""): string {
  return `{name: ${name}, exec: x, ${more} server: {listener_port: ${listenerPort}, port_arg: {name: -p, start_port: ${startPort}}}}`;
}

test("worker ports include the slots of standby and surge", () => {
  const pools = (start: number): string =>
    `supervisor: {workers: [${server("a", 9090, 1000, "replicas: 4, standby: 1,")}, ${server("b", start, 1001)}]}`;
  assert.deepEqual(problemsOf(pools(9096)), []);
  assert.deepEqual(problemsOf(pools(9095)), [
    "supervisor.workers[1].server.port_arg.start_port: ports 9095 to 9096 overlap " +
      "supervisor.workers[0].server.port_arg.start_port (ports 9090 to 9095)",
  ]);
});

test("worker ports include the maximum of autoscale", () => {
  const pools = (start: number): string =>
    `supervisor: {workers: [${server("a", 9090, 1000, "replicas: 2, autoscale: {max: 6, cpu: 0.7},")}, ${server("b", start, 1001)}]}`;
  assert.deepEqual(problemsOf(pools(9097)), []);
  assert.deepEqual(problemsOf(pools(9096)), [
    "supervisor.workers[1].server.port_arg.start_port: ports 9096 to 9097 overlap " +
      "supervisor.workers[0].server.port_arg.start_port (ports 9090 to 9096)",
  ]);
});

test("worker ports of start_port are compared like those of port_arg", () => {
  const bare = (start: number) => `{name: b, exec: x, replicas: 2, server: {listener_port: 7, start_port: ${start}}}`;
  const pools = (start: number) => `supervisor: {workers: [${server("a", 9090, 1000)}, ${bare(start)}]}`;
  assert.deepEqual(problemsOf(pools(9092)), []);
  assert.deepEqual(problemsOf(pools(9091)), [
    "supervisor.workers[1].server.start_port: ports 9091 to 9093 overlap " +
      "supervisor.workers[0].server.port_arg.start_port (ports 9090 to 9091)",
  ]);
});

test("listener, admin, worker and inherited ports are compared with each other", () => {
  assert.deepEqual(problemsOf(`supervisor: {workers: [${server("a", 8000, 9000)}]}`), [
    "supervisor.workers[0].server.listener_port: port 9000 overlaps admin.port (port 9000)",
  ]);
  assert.deepEqual(
    problemsOf('supervisor: {workers: [{name: a, exec: x, sockets: [{name: s, listen: "[::]:9000"}]}]}'),
    ["supervisor.workers[0].sockets[0].listen: port 9000 overlaps admin.port (port 9000)"],
  );
  assert.deepEqual(problemsOf(`supervisor: {workers: [${server("a", 8000, 7)}, ${server("b", 8100, 7)}]}`), [
    "supervisor.workers[1].server.listener_port: port 7 overlaps supervisor.workers[0].server.listener_port (port 7)",
  ]);
});

test("each slot has its own metrics port", () => {
  const pool = (port: number) => `supervisor: {workers: [{name: a, exec: x, replicas: 3, metrics: {port: ${port}}}]}`;
  assert.deepEqual(problemsOf(pool(9001)), []);
  assert.deepEqual(problemsOf(pool(8998)), [
    "supervisor.workers[0].metrics.port: ports 8998 to 9001 overlap admin.port (port 9000)",
  ]);
});

test("port 0 and socket paths overlap nothing", () => {
  const sockets = "sockets: [{name: s, listen: /run/a:1}, {name: t, listen: /run/b:1}]";
  assert.deepEqual(problemsOf(`{admin: {port: 0}, supervisor: {workers: [{name: a, exec: x, ${sockets}}]}}`), []);
});

test("worker ports above 65535 are refused", () => {
  assert.deepEqual(problemsOf(`supervisor: {workers: [${server("a", 65_535, 7)}]}`), [
    "supervisor.workers[0].server.port_arg.start_port: ports 65535 to 65536 exceed the highest port, 65535",
  ]);
});

test("ports can be checked again with the actual number of replicas", () => {
  const parsed = parseConfig(
    `supervisor: {workers: [${server("a", 9090, 7, "replicas: auto,")}, ${server("b", 9094, 8)}]}`,
    "c.yaml",
    {},
  );
  assert.ok(parsed.ok);
  assert.equal(findPortProblems(parsed.config, () => 1).length, 0);
  assert.equal(findPortProblems(parsed.config, () => 8).length, 1);
});
