/** Real servers that report by sd_notify or Einhorn's protocol that they are ready. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, poolOf } from "../support/controller.ts";
import { startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";
import { freePorts } from "../support/ports.ts";
import { commandOk } from "../support/traffic.ts";
import { happened } from "../support/watch.ts";

/** Installed by scripts/exampleServers.sh. */
const TOOLS = resolve("node_modules/.tools");

const APPLICATION = `
def make_app(config):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]
    return app
application = make_app({})
`;

const BASEPLATE = "[app:main]\nfactory = service:make_app\n[server:main]\nfactory = baseplate.server.wsgi\n";

const SERVERS = [
  {
    program: "gunicorn",
    environment: "venv",
    protocol: "sd_notify",
    args: ["--workers", "1", "--no-control-socket", "service"],
  },
  { program: "baseplate-serve", environment: "baseplate", protocol: "einhorn", args: ["service.ini"] },
] as const;

for (const { program, environment, protocol, args } of SERVERS)
  test(`${program} reports by ${protocol} that it is ready, and a restart fails no request`, async (t: TestContext) => {
    const exec = join(TOOLS, environment, "bin", program);
    if (!existsSync(exec)) return t.skip("the Python servers could not be installed");
    await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-reporting-"));
    const { path } = directory;
    await writeFile(join(path, "service.py"), APPLICATION);
    await writeFile(join(path, "service.ini"), BASEPLATE);
    const port = await freePorts(1);
    await using controller = await ControllerUnderTest.start({
      workers: poolOf({
        name: "web",
        replicas: 2,
        exec,
        args,
        cwd: path,
        // baseplate refuses to start without the directory.
        env: { PYTHONPATH: path, PROMETHEUS_MULTIPROC_DIR: path },
        sockets: [{ name: "http", listen: `127.0.0.1:${port}` }],
        rolling: { min_ready: "0s" },
        probes: { readiness: { [protocol]: true } },
      }),
    });
    await controller.ready();
    assert.equal((await happened(controller, "ready")).evidence, "probe");
    // Without a proxy, a server that stops may close a kept connection just when a request is sent on it.
    using load = startLoad({
      target: { port },
      connections: 4,
      isConnectionPerRequest: true,
      requests: [{ path: "/" }],
    });
    await load.reached(20);
    await commandOk(controller, "restart", "web");
    const report = await load.stop();
    assert.equal(report.failed, 0, describeLoad(report));
  });
