/** The controller with minimal rights: what works, and the errors for what does not. */
import assert from "node:assert/strict";
import { Container, containerTest, podman, USER } from "./podman.ts";
import { configOf, idlePool, LISTENER, proxiedPool } from "./pools.ts";

const SILENT_ENVOY = { "/usr/local/bin/envoy": "#!/bin/sh\nexec sleep infinity\n" };

containerTest(
  "the documented image runs as PID 1 without capabilities and without a writable directory, and stops gracefully",
  async () => {
    await using container = await Container.ready({ config: configOf([idlePool("web")]), isWritable: false });
    const status = await container.execOk("cat", "/proc/1/status");
    assert.match(status, new RegExp(`^Uid:\\t${USER}\\t${USER}\\t${USER}\\t${USER}$`, "mu"));
    for (const set of ["Inh", "Prm", "Eff", "Bnd", "Amb"]) assert.match(status, new RegExp(`^Cap${set}:\\t0+$`, "mu"));
    assert.match(status, /^NoNewPrivs:\t1$/mu);
    assert.match(status, /^Seccomp:\t2$/mu);
    assert.notEqual(
      (await container.exec("getent", "passwd", String(USER))).code,
      0,
      "the user has an entry in passwd",
    );
    for (const path of ["/tmp", "/run", "/var/tmp", "/"]) {
      assert.notEqual((await container.exec("touch", `${path}/x`)).code, 0, `${path} is writable`);
    }
    // The controller runs without a control socket, so the command line cannot connect.
    await container.logged("without a control socket");
    const { code, stderr } = await container.exec("monoceros", "status");
    assert.equal(code, 69, stderr);
    await container.signal("SIGTERM");
    assert.equal(await container.ended(), 0, container.text);
  },
);

containerTest("proxy mode and all commands work with only /tmp and /run writable", async () => {
  await using container = await Container.ready({ config: configOf([proxiedPool(2)]) });
  assert.deepEqual(await container.ask(LISTENER, "/"), { status: 200, body: "hello\n" });
  const status = JSON.parse(await container.execOk("monoceros", "status", "--json")) as { pid: number };
  assert.equal(status.pid, 1);
  assert.match(await container.execOk("monoceros", "events"), /controller is ready/u);
  assert.match(await container.execOk("monoceros", "dump", "web-0"), /perl/u);
  for (const target of ["web-0", "controller"]) {
    await container.execOk("monoceros", "profile", target, "--seconds", "1", "--output", "/tmp/profile.pb.gz");
    assert.notEqual(await container.execOk("stat", "--format", "%s", "/tmp/profile.pb.gz"), "0\n");
  }
  await container.execOk("monoceros", "restart", "web");
  assert.equal((await container.ask(LISTENER, "/")).status, 200);
});

containerTest(
  "another user of the container can neither use the control socket nor write to its directory",
  async () => {
    await using container = await Container.ready({ config: configOf([proxiedPool(1)]) });
    const socket = "/run/monoceros/monoceros.sock";
    const modes = await container.execOk("stat", "--format", "%a %u", socket, "/run/monoceros");
    const [ofSocket = "", ofDirectory = ""] = modes.trim().split("\n");
    assert.equal(ofSocket, `600 ${USER}`);
    assert.match(ofDirectory, new RegExp(`^7[0145][0145] ${USER}$`, "u"));
    const { code, stderr } = await podman("exec", "--user", "10002", container.name, "monoceros", "status");
    assert.equal(code, 69, stderr);
    assert.ok(stderr.includes(socket), stderr);
  },
);

containerTest("proxy mode without a writable directory exits with 78 and says what to mount", async () => {
  const { code, text } = await Container.run({ config: configOf([proxiedPool(1)]), isWritable: false });
  assert.equal(code, 78, text);
  assert.match(text, /runtime_dir/u);
  assert.match(text, /mount|emptyDir|tmpfs/u);
  assert.doesNotMatch(text, /a bug|^\s+at /mu);
});

containerTest("an invalid configuration exits with 78 and prints the position of the problem", async () => {
  const { code, text } = await Container.run({ config: configOf([idlePool("web", { replicsa: 2 })]) });
  assert.equal(code, 78, text);
  assert.match(text, /config\.yaml:\d+:\d+: .*replicsa/u);
});

containerTest("the error for an Envoy that does not answer differs from the one for a missing Envoy", async () => {
  await using container = new Container({ config: configOf([proxiedPool(1)]), files: SILENT_ENVOY });
  assert.equal(await container.ended(), 1, container.text);
  assert.match(container.text, /did not respond within 20s/u);
  assert.doesNotMatch(container.text, /install Envoy/u);
});

containerTest("SIGTERM stops the controller while it waits for Envoy's version", async () => {
  await using container = new Container({ config: configOf([proxiedPool(1)]), files: SILENT_ENVOY });
  await container.process((status) => /^Name:\tsleep$/mu.test(status), "envoy --version runs");
  await container.signal("SIGTERM");
  await container.ended();
  assert.doesNotMatch(container.text, /did not respond/u, "the container ran until the timeout of Envoy's version");
});
