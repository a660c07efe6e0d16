/** Adopted processes of the controller as PID 1 of a container and as a subreaper. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ControllerUnderTest,
  eventually,
  isAlive,
  listDescendants,
  type StartOptions,
  untilGone,
} from "../support/controller.ts";
import { NAMESPACE } from "../support/namespace.ts";
import { eventsOf, guardianOf, happened, readProc, said, shellPool } from "../support/watch.ts";

const ORPHANS = 250;

/** A worker that leaves orphans behind. They exit with 0, 3, 4 or by a signal, before or after their parents. */
const ORPHANAGE = `
i=0
while [ $i -lt ${ORPHANS} ]; do
  case $((i % 5)) in
    0) (sh -c 'exit 3' &) ;;
    1) (sh -c 'exit 4' &) ;;
    2) (sh -c 'sleep 0.05; exit 3' &) ;;
    3) (setsid sh -c 'kill -9 $$' &) ;;
    4) (sh -c ':' &) ;;
  esac
  i=$((i + 1))
done
echo abandoned
exec sleep 1000`;

const SITUATIONS: readonly {
  readonly name: string;
  readonly skip: boolean;
  readonly options: Partial<StartOptions>;
}[] = [
  {
    name: "as PID 1",
    skip: NAMESPACE === undefined,
    options: NAMESPACE === undefined ? {} : { wrapper: NAMESPACE },
  },
  { name: "as a subreaper", skip: false, options: {} },
];

function zombiesOf(controller: ControllerUnderTest): number[] {
  return listDescendants(controller.pid).filter((pid) => /^State:\s+Z/mu.test(readProc(pid, "status")));
}

for (const { name, skip, options } of SITUATIONS) {
  test(`the controller ${name} reaps ${ORPHANS} orphans regardless of their exit code, and workers are not affected [P1]`, {
    skip,
  }, async () => {
    await using controller = await ControllerUnderTest.start({
      ...options,
      workers: [shellPool("parent", ORPHANAGE), shellPool("calm", "exec sleep 1000", { replicas: 2 })].join("\n"),
    });
    await said(controller, "parent-0", "abandoned");
    const status = await controller.status();
    if (name === "as PID 1") assert.equal(status.pid, 1);
    await eventually(
      async () => (await controller.metric("monoceros_controller_orphans_reaped_total")) >= ORPHANS || undefined,
      "all orphans are reaped",
    );
    await eventually(() => zombiesOf(controller).length === 0 || undefined, "there is no zombie");
    const after = await controller.status();
    assert.deepEqual([after.phase, after.healthy], ["running", true]);
    assert.deepEqual(
      after.pools.flatMap(({ workers }) => workers.map(({ id, pid, incarnation }) => [id, pid, incarnation])),
      status.pools.flatMap(({ workers }) => workers.map(({ id, pid }) => [id, pid, 1])),
    );
    assert.deepEqual(eventsOf(controller, "exited"), []);
    assert.equal((await controller.call("POST", "/v1/shutdown")).status, 202);
    assert.equal((await controller.ended).code, 0);
  });
}

test("the controller as PID 1 restarts crashed workers and shuts down gracefully at SIGTERM [P1 S2]", {
  skip: NAMESPACE === undefined,
}, async () => {
  await using controller = await ControllerUnderTest.start({
    wrapper: NAMESPACE ?? [],
    workers: shellPool("web", `trap "" TERM; setsid sleep 1000 & echo up; wait; exec sleep 1000`, {
      replicas: 2,
      signal_timeout: "500ms",
    }),
  });
  await said(controller, "web-0", "up");
  await said(controller, "web-1", "up");
  const [own] = listDescendants(controller.pid);
  assert.ok(own !== undefined);
  const family = listDescendants(own);
  const leader = family.find((pid) => readProc(pid, "environ").includes("MONOCEROS_SLOT=1"));
  assert.ok(leader !== undefined);
  process.kill(leader, "SIGKILL");
  await happened(controller, "ready", ({ slot, incarnation }) => slot === 1 && incarnation === 2);
  await said(controller, "web-1", "up", 2);
  const last = listDescendants(own);
  process.kill(own, "SIGTERM");
  assert.equal((await controller.ended).code, 0);
  assert.deepEqual([...family, ...last].filter(isAlive), []);
});

for (const signal of ["SIGQUIT", "SIGINT", "SIGPWR"] as const) {
  test(`the controller as PID 1 shuts down gracefully at ${signal}, which Docker's STOPSIGNAL may use`, {
    skip: NAMESPACE === undefined,
  }, async () => {
    await using controller = await ControllerUnderTest.start({
      wrapper: NAMESPACE ?? [],
      workers: shellPool("web", "trap 'echo finished; exit 0' TERM; echo up; while :; do sleep 0.05; done"),
    });
    await said(controller, "web-0", "up");
    const [own] = listDescendants(controller.pid);
    assert.ok(own !== undefined);
    process.kill(own, signal);
    assert.equal((await controller.ended).code, 0);
    await said(controller, "web-0", "finished");
  });
}

test("when the controller is killed as PID 1 the kernel kills all processes of its namespace [P2]", {
  skip: NAMESPACE === undefined,
}, async () => {
  await using controller = await ControllerUnderTest.start({
    wrapper: NAMESPACE ?? [],
    workers: shellPool("web", `trap "" TERM; setsid sleep 1000 & echo up; wait; exec sleep 1000`, { replicas: 2 }),
  });
  await said(controller, "web-0", "up");
  await said(controller, "web-1", "up");
  const family = listDescendants(controller.pid);
  const [own] = family;
  assert.ok(own !== undefined);
  assert.equal(guardianOf(own), undefined, "PID 1 needs no guardian");
  process.kill(own, "SIGKILL");
  await controller.ended;
  for (const pid of family) await untilGone(pid);
});

test("a controller does not report workers of a controller in a container as leftovers [P3]", {
  skip: NAMESPACE === undefined,
}, async () => {
  const workers = shellPool("web", "echo up; exec sleep 1000");
  await using inside = await ControllerUnderTest.start({ wrapper: NAMESPACE ?? [], workers });
  await said(inside, "web-0", "up");
  await using outside = await ControllerUnderTest.start({ workers });
  await said(outside, "web-0", "up");
  // The search for leftovers is complete before the first answer.
  assert.equal((await outside.status()).healthy, true);
  assert.deepEqual(await outside.stop(), { code: 0, signal: null });
  const family = listDescendants(inside.pid);
  assert.deepEqual(
    outside.stderr.filter((line) => line.includes("left over") && family.some((pid) => line.includes(`pid ${pid} `))),
    [],
  );
  assert.equal((await inside.call("POST", "/v1/shutdown")).status, 202);
  await inside.ended;
});
