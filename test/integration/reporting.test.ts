/** Workers that report about themselves by sd_notify(3) or Einhorn's protocol. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerUnderTest, eventually, poolOf } from "../support/controller.ts";
import { commandOk } from "../support/traffic.ts";
import { eventsOf, happened } from "../support/watch.ts";

type Block = Readonly<Record<string, unknown>>;

/** Sends a message to NOTIFY_SOCKET. */
const NOTIFY = `
import os, signal, socket, sys, time
def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.connect(os.environ["NOTIFY_SOCKET"])
        client.send(text.encode())
`;

function pythonPool(name: string, script: string, more: Block): string {
  return poolOf({ name, exec: "python3", args: ["-c", script], ...more });
}

test("a worker reports by READY=1 that it is ready, and its status is shown", async () => {
  const script = `${NOTIFY}
time.sleep(0.2)
notify("STATUS=loading")
notify("READY=1\\nSTATUS=serving on 4 threads")
signal.pause()`;
  const workers = pythonPool("web", script, { probes: { readiness: { sd_notify: true } } });
  await using controller = await ControllerUnderTest.start({ workers });
  assert.equal((await happened(controller, "ready")).evidence, "probe");
  await eventually(
    async () => ((await controller.worker("web-0")).reports === "serving on 4 threads" ? true : undefined),
    "the status is shown",
  );
});

test("until READY=1 the status says what the worker waits for", async () => {
  const workers = pythonPool("web", "import signal; signal.pause()", { probes: { readiness: { sd_notify: true } } });
  await using controller = await ControllerUnderTest.start({ workers });
  const text = "it has not reported ready through NOTIFY_SOCKET (READY=1) yet";
  await eventually(async () => ((await controller.worker("web-0")).waits_for === text ? true : undefined), text);
});

test("a worker that sends no more keep-alives is replaced, one that sends them is not", async () => {
  // The first process falls silent, its successors go on.
  const script = `${NOTIFY}
period = int(os.environ["WATCHDOG_USEC"]) / 1e6
notify("READY=1")
while True:
    if os.environ["MONOCEROS_INCARNATION"] != "1": notify("WATCHDOG=1")
    time.sleep(period / 4)`;
  const probes = {
    readiness: { sd_notify: true },
    liveness: { sd_notify: true, period: "300ms", failure_threshold: 2 },
  };
  const workers = pythonPool("web", script, { probes, rolling: { min_ready: "0s", max_surge: 0, max_unavailable: 1 } });
  await using controller = await ControllerUnderTest.start({ workers });
  const stopping = await happened(controller, "stopping");
  assert.equal(stopping.cause, "liveness");
  assert.match(stopping.reason, /liveness failed 2 times in a row: no WATCHDOG=1 within 300ms/u);
  await happened(controller, "ready", ({ incarnation }) => incarnation === 2);
});

test("WATCHDOG=trigger replaces the worker", async () => {
  const script = `${NOTIFY}
notify("READY=1")
if os.environ["MONOCEROS_INCARNATION"] == "1": notify("WATCHDOG=trigger")
while True:
    notify("WATCHDOG=1")
    time.sleep(0.05)`;
  const probes = {
    readiness: { sd_notify: true },
    liveness: { sd_notify: true, period: "200ms", failure_threshold: 1 },
  };
  const workers = pythonPool("web", script, { probes, rolling: { min_ready: "0s", max_surge: 0, max_unavailable: 1 } });
  await using controller = await ControllerUnderTest.start({ workers });
  assert.match((await happened(controller, "stopping")).reason, /requested its replacement \(WATCHDOG=trigger\)/u);
});

test("a worker that reports STOPPING=1 is not ready any more", async () => {
  const script = `${NOTIFY}
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
notify("READY=1")
signal.sigwait([signal.SIGUSR1])
notify("STOPPING=1")
signal.pause()`;
  const workers = pythonPool("web", script, { probes: { readiness: { sd_notify: true } } });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  process.kill((await happened(controller, "spawned")).pid, "SIGUSR1");
  assert.match((await happened(controller, "unready")).reason, /it has reported that it is stopping/u);
});

test("EXTEND_TIMEOUT_USEC extends the grace period of a stop", async () => {
  const script = `${NOTIFY}
def stop(*_):
    notify("STOPPING=1\\nEXTEND_TIMEOUT_USEC=60000000")
    time.sleep(1.5)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
notify("READY=1")
while True: signal.pause()`;
  const workers = pythonPool("web", script, { probes: { readiness: { sd_notify: true } }, signal_timeout: "1s" });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  await controller.stop();
  assert.deepEqual(eventsOf(controller, "killed"), []);
});

/** What a client library of Einhorn does: checks its parent, takes the socket, acknowledges. */
const EINHORN = `
import json, os, socket, time
assert os.getppid() == int(os.environ["EINHORN_MASTER_PID"]) and os.environ["EINHORN_FD_COUNT"] == "1"
family = getattr(socket, os.environ["EINHORN_FD_FAMILY_0"])
listener = socket.fromfd(int(os.environ["EINHORN_FD_0"]), family, socket.SOCK_STREAM)
time.sleep(0.2)
with socket.socket(socket.AF_UNIX) as control:
    control.connect(os.environ["EINHORN_SOCK_PATH"])
    control.sendall((json.dumps({"command": "worker:ack", "pid": os.getpid()}) + "\\n").encode())
while True:
    client, _ = listener.accept()
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
    client.close()`;

test("a worker takes its socket and acknowledges by Einhorn's protocol, also after a reload", async () => {
  const pool = (more: Block) =>
    pythonPool("web", EINHORN, {
      replicas: 2,
      sockets: [{ name: "http", listen: "127.0.0.1:0" }],
      rolling: { min_ready: "0s" },
      probes: { readiness: { einhorn: true } },
      ...more,
    });
  await using controller = await ControllerUnderTest.start({ workers: pool({}) });
  assert.equal((await happened(controller, "ready", () => true, 2)).evidence, "probe");
  controller.configure({ workers: pool({ env: { CHANGED: "1" } }) });
  await commandOk(controller, "reload");
  await happened(controller, "ready", () => true, 4);
});
