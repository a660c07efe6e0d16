/** Every configuration we generate is one that Envoy takes: a matrix over all options goes through `--mode validate`. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { PoolProxy, type ProxyListener } from "../../src/envoy/control/proxy.ts";
import { bootstrap, bootstrapToCheck } from "../../src/envoy/resources/bootstrap.ts";
import { cluster } from "../../src/envoy/resources/cluster.ts";
import { endpoints } from "../../src/envoy/resources/endpoints.ts";
import type { JsonObject } from "../../src/envoy/resources/json.ts";
import { listener } from "../../src/envoy/resources/listener.ts";
import type { ProxyLocation, ProxySettings, Upstream } from "../../src/envoy/resources/settings.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { TEST_CERTIFICATE, TEST_KEY } from "../support/certificate.ts";
import { ENVOY, proxySettings } from "../support/envoy.ts";
import { SeededRandom } from "../support/random.ts";

const directory = mkdtempSync(join(tmpdir(), "monoceros-envoy-config-"));
after(() => rmSync(directory, { recursive: true }));
const tls = { cert: join(directory, "cert.pem"), key: join(directory, "key.pem") };
writeFileSync(tls.cert, TEST_CERTIFICATE);
writeFileSync(tls.key, TEST_KEY);

const location: ProxyLocation = { directory, admin: { socketPath: join(directory, "admin.sock") } };

/** Listens to a proxy that never runs. */
const NOBODY: ProxyListener = {
  ready() {},
  failed() {},
  activated() {},
  drained() {},
  listenersDrained() {},
  requestsCounted() {},
  updateLate() {},
  updateRefused() {},
  writeFailed() {},
};

/** Every option with its values. */
const OPTIONS: { readonly [Key in keyof ProxySettings]?: readonly ProxySettings[Key][] } = {
  protocol: ["http", "grpc", "tcp"],
  algorithm: ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"],
  hashOn: [undefined, "source_ip", "header:x-user", "cookie:id", "query:user"],
  pool: ["web", "with.dots-and_underscores"],
  listenerAddress: ["0.0.0.0", "127.0.0.1", "::", "localhost"],
  healthCheckPath: [undefined, "/", "/health?deep=1&x=%20"],
  requestTimeoutMs: [0, 1, 1500, 86_400_000],
  maxConcurrentPerWorker: [undefined, 1, 3, 1_000_000],
  maxQueue: [0, 1, 1024, 10_000_000],
  workerKeepaliveMs: [1, 999, 1000, 3_600_000],
  healthCheckHost: ["localhost", "app.example:8443"],
  maxHeaders: [1, 1000, 100_000],
  maxHeaderBytes: [1024, 100_000, 8 * 1024 * 1024],
  trustedHops: [0, 1, 3],
  envoyMinor: [31, 33, 36, 40],
  concurrency: [1, 2, 1024],
  accessLog: [false, true],
  tls: [undefined, tls],
};

/** Upstreams of every kind. */
const UPSTREAMS: readonly Upstream[] = [
  { slot: 1, incarnation: 1, state: "draining", address: { path: "/run/web-1.sock" } },
  { slot: 0, incarnation: 2, state: "serving", address: { port: 9090 } },
  { slot: 2, incarnation: 1, state: "serving", address: { port: 65_535 } },
];

/** All combinations of the first three options, which depend on each other, with the others by chance. */
function combinations(perCombination: number): ProxySettings[] {
  const random = new SeededRandom(1);
  const all: ProxySettings[] = [];
  for (const protocol of OPTIONS.protocol ?? [])
    for (const algorithm of OPTIONS.algorithm ?? [])
      for (const hashOn of OPTIONS.hashOn ?? [])
        for (let index = 0; index < perCombination; index++) {
          const chosen = Object.entries(OPTIONS).map(([key, values]) => [key, random.pick<unknown>(values)]);
          all.push({ ...proxySettings(), ...Object.fromEntries(chosen), protocol, algorithm, hashOn });
        }
  return all;
}

function validate(name: string, content: JsonObject): void {
  const file = join(directory, `${name}.json`);
  writeFileSync(file, JSON.stringify(content));
  const { status, stderr } = spawnSync(ENVOY, ["--mode", "validate", "-l", "warning", "-c", file], {
    encoding: "utf8",
  });
  assert.equal(status, 0, `${name}: ${stderr}`);
  assert.doesNotMatch(stderr, /deprecat|unknown/iu, name);
}

test("every pair of values of two options occurs in the matrix", () => {
  const all = combinations(6);
  const keys = Object.keys(OPTIONS) as (keyof ProxySettings)[];
  for (const a of keys)
    for (const b of keys)
      for (const valueA of OPTIONS[a] ?? [])
        for (const valueB of OPTIONS[b] ?? [])
          if (a !== b)
            assert.ok(
              all.some((settings) => settings[a] === valueA && settings[b] === valueB),
              `${a}=${String(valueA)} with ${b}=${String(valueB)}`,
            );
});

test("Envoy accepts every configuration of the matrix over all options [E13]", () => {
  const all = combinations(6);
  // One process looks at all of them: what is named alike gets a number.
  const listeners = all.map((settings, index) => ({
    ...listener({ ...settings, listenerPort: 10_000 + index }),
    name: `ingress-${index}`,
  }));
  const clusters = all.map((settings, index) => ({
    ...cluster(settings, "/x/y"),
    name: index === 0 ? "workers" : `workers-${index}`,
    type: "STATIC",
    eds_cluster_config: undefined,
    load_assignment: { ...endpoints(UPSTREAMS), cluster_name: `workers-${index}` },
  }));
  validate("matrix", { ...bootstrapToCheck(proxySettings(), location), static_resources: { listeners, clusters } });
});

test("Envoy accepts each configuration for validation and for a start [E13]", () => {
  for (const [index, settings] of combinations(1).entries()) {
    if (index % 5 !== 0) continue;
    validate(`check-${index}`, bootstrapToCheck(settings, location));
    const chosen = index % 2 === 0 ? location : { ...location, admin: { port: 9901 } };
    const proxy = new PoolProxy({ settings, location: chosen, clock: systemClock, listener: NOBODY });
    proxy.prepare();
    validate(`start-${index}`, bootstrap(settings, chosen));
    proxy[Symbol.dispose]();
  }
});

test("the check can fail: Envoy rejects a missing certificate and an invalid address", () => {
  const refused = (changes: Partial<ProxySettings>, reason: RegExp) =>
    assert.throws(() => validate("refused", bootstrapToCheck(proxySettings(changes), location)), reason);
  refused({ tls: { cert: "/no/such.pem", key: tls.key } }, /no\/such\.pem/u);
  refused({ listenerAddress: "somewhere" }, /malformed IP address: somewhere/u);
});

test("endpoints are listed in the order of their slots, whatever the input order", () => {
  assert.deepEqual(endpoints(UPSTREAMS), endpoints(UPSTREAMS.toReversed()));
  assert.match(JSON.stringify(endpoints(UPSTREAMS)), /9090.*web-1\.sock.*65535/u);
});
