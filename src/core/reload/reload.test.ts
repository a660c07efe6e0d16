import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import type { PoolSpec } from "../spec.ts";
import { isSettled, newReloads, preparationsOf, stepReload } from "./reload.ts";
import type { PoolChange, PoolVersion, ReloadEvent, ReloadState, ReloadStep } from "./state.ts";

let lastId = 0;

function version(name: string, more: Partial<PoolSpec> = {}, isProxied = false): PoolVersion {
  const id = ++lastId;
  const proxySpec = poolSpec({ name: `${name}-proxy`, role: "proxy", fronts: name, replicas: 1 });
  return { id, proxyId: id, spec: poolSpec({ name, ...more }), proxySpec: isProxied ? proxySpec : undefined };
}

function changed(of: PoolVersion, more: Partial<Extract<PoolChange, { kind: "changed" }>> = {}): PoolChange {
  const flags = { isLaunched: true, isScaled: false, isProxyChanged: false };
  return { kind: "changed", version: of, ...flags, reason: "env", ...more };
}

/** Reloads of a controller on which every order takes effect at once. */
class Rig {
  state: ReloadState;
  isLeaving = false;
  readonly specs = new Map<string, PoolSpec>();
  steps: readonly ReloadStep[] = [];

  constructor(...pools: readonly PoolVersion[]) {
    this.state = newReloads(pools);
    for (const { spec, proxySpec } of pools)
      for (const each of [spec, proxySpec]) if (each !== undefined) this.specs.set(each.name, each);
  }

  post(event: ReloadEvent): readonly ReloadStep[] {
    const { isLeaving, specs } = this;
    const { state, steps } = stepReload(this.state, event, { isLeaving, specOf: (name) => specs.get(name) });
    this.state = state;
    this.steps = steps;
    for (const step of steps) if (step.kind === "order") specs.set(step.pool, step.spec);
    return steps;
  }

  request(...changes: readonly PoolChange[]): readonly ReloadStep[] {
    const kept = this.state.pools.map(({ wanted }) => wanted.spec.name);
    const added = changes.flatMap((change) => (change.kind === "removed" ? [] : [change.version.spec.name]));
    const request = { names: [...new Set([...kept, ...added])], changes, policy: undefined };
    return this.post({ kind: "requested", request, prepared: preparationsOf(this.state, request) });
  }

  end(operation: string, isSuccess: boolean): readonly ReloadStep[] {
    return this.post({ kind: "ended", operation, isSuccess });
  }

  /** The steps of the last event in short. */
  get summary(): string[] {
    return this.steps.map(summaryOf);
  }

  get names(): string[] {
    return this.state.pools.map(({ wanted }) => wanted.spec.name);
  }
}

function summaryOf(step: ReloadStep): string {
  switch (step.kind) {
    case "order":
      return `${step.id}: ${step.pool} revision ${step.spec.revision}, ${step.spec.replicas} replicas`;
    case "prepare":
      return `prepare ${step.version.spec.name} revision ${step.revision}`;
    case "putInForce":
      return `putInForce ${step.version.id}/${step.version.proxyId}`;
    case "reconfigure":
      return `reconfigure ${step.version.id}, else ${step.previous}`;
    case "releaseSockets":
      return `releaseSockets ${step.pool}`;
    case "setPolicy":
      return "setPolicy";
    case "emit":
      return `${step.event.kind} ${"operation" in step.event ? step.event.operation : ""}`;
  }
}

test("a changed launch key replaces the workers and keeps the replicas that an operator chose", () => {
  const rig = new Rig(version("web"));
  rig.specs.set("web", poolSpec({ name: "web", replicas: 7 }));
  const next = version("web", { replicas: 2 });
  rig.request(changed(next));
  assert.deepEqual(rig.summary, [`putInForce ${next.id}/${next.id}`, "reload-1: web revision 2, 7 replicas"]);
  assert.deepEqual(
    rig.steps.flatMap((step) => (step.kind === "order" ? [step.keeps] : [])),
    [["replicas"]],
  );
});

test("changed replicas replace no worker", () => {
  const rig = new Rig(version("web"));
  rig.request(changed(version("web", { replicas: 5 }), { isLaunched: false, isScaled: true }));
  assert.equal(rig.summary.at(-1), "reload-1: web revision 1, 5 replicas");
  assert.deepEqual(
    rig.steps.flatMap((step) => (step.kind === "order" ? [step.keeps] : [])),
    [["revision"]],
  );
});

test("a failed reload returns to the configuration with which the pool ran, and its proxy too", () => {
  const first = version("web", {}, true);
  const rig = new Rig(first);
  const next = version("web", {}, true);
  rig.request(changed(next, { isProxyChanged: true }));
  assert.equal(rig.summary.at(-1), `reconfigure ${next.id}, else ${first.id}`);
  rig.end("reload-1", false);
  assert.deepEqual(rig.summary, [`putInForce ${first.id}/${first.id}`, `reconfigure ${first.id}, else ${next.id}`]);
  assert.deepEqual(rig.state.pools[0]?.wanted, first);
});

test("a failed reload that a later one follows rolls nothing back; the later one decides", () => {
  const first = version("web");
  const rig = new Rig(first);
  const [second, third] = [version("web"), version("web")];
  rig.request(changed(second));
  rig.request(changed(third));
  assert.deepEqual(rig.end("reload-1", false), []);
  assert.deepEqual(rig.state.pools[0]?.wanted, third);
  rig.end("reload-2", false);
  assert.deepEqual(rig.state.pools[0]?.wanted, first);
});

test("a rollback returns to an earlier reload that succeeded, also if a later one was requested meanwhile", () => {
  const rig = new Rig(version("web"));
  const [second, third] = [version("web"), version("web")];
  rig.request(changed(second));
  rig.request(changed(third));
  rig.end("reload-1", true);
  rig.end("reload-2", false);
  assert.deepEqual(rig.state.pools[0]?.wanted, second);
});

test("proxy settings that Envoy refuses stay as they were, and the workers keep the rest", () => {
  const first = version("web", {}, true);
  const rig = new Rig(first);
  const next = version("web", {}, true);
  const [step] = rig.request(changed(next, { isProxyChanged: true })).filter(({ kind }) => kind === "reconfigure");
  assert.ok(step?.kind === "reconfigure");
  rig.post({ kind: "reconfigured", step, isSuccess: false });
  assert.deepEqual(rig.summary, [`putInForce ${next.id}/${first.id}`]);
  rig.end("reload-1", true);
  const [pool] = rig.state.pools;
  assert.ok(pool?.phase === "running");
  assert.deepEqual(pool.proved, { ...next, proxyId: first.id });
});

test("a new pool starts with its proxy; if either fails, both are removed once", () => {
  const rig = new Rig(version("web"));
  rig.request({ kind: "added", version: version("api", { replicas: 3 }, true), blockers: [] });
  assert.deepEqual(rig.summary, ["reload-1: api-proxy revision 1, 1 replicas", "reload-2: api revision 1, 3 replicas"]);
  rig.end("reload-1", false);
  assert.deepEqual(rig.summary, ["reload-3: api revision 1, 0 replicas"]);
  assert.deepEqual(rig.names, ["web"]);
  assert.deepEqual(rig.end("reload-2", false), []);
  rig.end("reload-3", true);
  assert.deepEqual(rig.summary, ["releaseSockets api", "reload-4: api-proxy revision 1, 0 replicas"]);
  rig.end("reload-4", true);
  assert.deepEqual([rig.state.leaving, rig.state.operations], [[], []]);
});

test("a pool with a claim of a removed one starts when the removal is complete, with the announced operations", () => {
  const rig = new Rig(version("web", {}, true));
  rig.request({ kind: "removed", name: "web" }, { kind: "added", version: version("site"), blockers: ["web"] });
  assert.deepEqual(rig.summary, ["reload-1: web revision 1, 0 replicas", "operation_queued reload-2"]);
  assert.ok(!isSettled(rig.state));
  rig.end("reload-1", true);
  assert.deepEqual(rig.summary, ["releaseSockets web", "reload-3: web-proxy revision 1, 0 replicas"]);
  rig.end("reload-3", true);
  assert.deepEqual(rig.summary, ["prepare site revision 1"]);
  rig.post({ kind: "prepared", pool: "site", failure: undefined });
  assert.deepEqual(rig.summary, ["reload-2: site revision 1, 2 replicas"]);
  assert.ok(isSettled(rig.state));
});

test("a waiting pool whose ports cannot be claimed fails its operations and is forgotten", () => {
  const rig = new Rig(version("web"));
  rig.request({ kind: "removed", name: "web" }, { kind: "added", version: version("site"), blockers: ["web"] });
  rig.end("reload-1", true);
  rig.post({ kind: "prepared", pool: "site", failure: "port 80 is taken" });
  assert.deepEqual(rig.summary, ["operation_failed reload-2"]);
  assert.deepEqual(rig.names, []);
});

test("a shutdown ends the operations of waiting pools and starts none", () => {
  const rig = new Rig(version("web", {}, true));
  rig.request({ kind: "removed", name: "web" }, { kind: "added", version: version("site"), blockers: ["web"] });
  rig.isLeaving = true;
  rig.end("reload-1", false);
  assert.deepEqual(rig.summary, ["releaseSockets web", "operation_failed reload-2"]);
});

test("a pool that comes back under its name continues the numbers of its revisions", () => {
  const rig = new Rig(version("web"));
  rig.request(changed(version("web")));
  rig.end("reload-1", false);
  rig.request({ kind: "removed", name: "web" });
  rig.end("reload-2", true);
  rig.request({ kind: "added", version: version("web"), blockers: [] });
  assert.deepEqual(rig.summary, ["reload-3: web revision 3, 2 replicas"]);
});

test("a pool that failed to start while its change was being prepared is started again after its removal", () => {
  const rig = new Rig();
  rig.request({ kind: "added", version: version("web"), blockers: [] });
  const request = { names: ["web"], changes: [changed(version("web"))], policy: undefined };
  const prepared = preparationsOf(rig.state, request);
  rig.end("reload-1", false);
  rig.post({ kind: "requested", request, prepared });
  assert.deepEqual(rig.summary, ["operation_queued reload-3"]);
  rig.end("reload-2", true);
  assert.deepEqual(rig.summary, ["releaseSockets web", "prepare web revision 3"]);
});
