/** Servers and job runners in Python. */
import { HOST_AND_PORT, type Program } from "./program.ts";

const uvicorn: Program = {
  name: "uvicorn",
  executables: ["uvicorn"],
  modules: ["uvicorn"],
  serves: "http",
  port: ["--host", "127.0.0.1", "--port", "{port}"],
  descriptor: { words: ["--fd", "{fd}"], isByPid: false },
  reusePort: "none",
  addressOptions: [...HOST_AND_PORT, { names: ["--uds"], value: "socket" }, { names: ["--fd"], value: "descriptor" }],
  workers: { options: ["--workers"], variable: "WEB_CONCURRENCY", none: ["--workers", "1"] },
  keepAlive: { ms: 5000, options: ["--timeout-keep-alive"] },
  workerKeepAlive: "3s",
  reloadOptions: ["--reload"],
  note: "Has no SO_REUSEPORT. Trusts forwarded headers from loopback, so the application sees the client's address.",
};

const fastapi: Program = {
  name: "fastapi",
  executables: ["fastapi"],
  modules: ["fastapi"],
  subcommands: ["run"],
  serves: "http",
  port: ["--host", "127.0.0.1", "--port", "{port}"],
  reusePort: "none",
  addressOptions: HOST_AND_PORT,
  workers: { options: ["--workers"], variable: "WEB_CONCURRENCY", none: ["--workers", "1"] },
  keepAlive: { ms: 5000 },
  workerKeepAlive: "3s",
  reloadOptions: ["--reload"],
  note: "Runs uvicorn. It takes no shared socket; run `uvicorn` itself for that.",
};

const gunicorn: Program = {
  name: "gunicorn",
  executables: ["gunicorn"],
  modules: ["gunicorn", "gunicorn.app.wsgiapp"],
  serves: "http",
  port: ["--bind", "127.0.0.1:{port}"],
  descriptor: { words: [], isByPid: true, wrapped: ["--bind", "fd://{fd}"] },
  reusePort: ["--bind", "{host}:{port}", "--reuse-port"],
  addressOptions: [{ names: ["--bind", "-b"], value: "address" }],
  workers: { options: ["--workers", "-w"], variable: "WEB_CONCURRENCY", none: ["--workers", "1"] },
  keepAlive: { ms: 2000, options: ["--keep-alive"] },
  workerKeepAlive: "1s",
  reloadOptions: ["--reload"],
  daemonOptions: ["--daemon", "-D"],
  note: "Finds a shared socket by `LISTEN_FDS`. From 25.1 on, `--no-control-socket` keeps workers from sharing one control file.",
};

const hypercorn: Program = {
  name: "hypercorn",
  executables: ["hypercorn"],
  modules: ["hypercorn"],
  serves: "http",
  port: ["--bind", "127.0.0.1:{port}"],
  descriptor: { words: ["--bind", "fd://{fd}"], isByPid: false },
  addressOptions: [{ names: ["--bind", "-b"], value: "address" }],
  workers: { options: ["--workers", "-w"] },
  keepAlive: { ms: 5000, options: ["--keep-alive"] },
  workerKeepAlive: "3s",
  reloadOptions: ["--reload"],
  daemonOptions: ["--daemon"],
  note: "Serves HTTP/1.1 and HTTP/2.",
};

const granian: Program = {
  name: "granian",
  executables: ["granian"],
  modules: ["granian"],
  serves: "http",
  port: ["--host", "127.0.0.1", "--port", "{port}"],
  addressOptions: [...HOST_AND_PORT, { names: ["--uds"], value: "socket" }],
  workers: { options: ["--workers"], variable: "GRANIAN_WORKERS", none: ["--workers", "1"] },
  keepAlive: { ms: 30_000, options: ["--http1-keep-alive-timeout"], isMs: true },
  workerKeepAlive: "10s",
  reloadOptions: ["--reload"],
  note: "A worker is two processes, granian's supervisor and its one worker. It takes no shared socket.",
};

const uwsgi: Program = {
  name: "uwsgi",
  executables: ["uwsgi"],
  serves: "http",
  port: ["--http-socket", "127.0.0.1:{port}"],
  addressOptions: [{ names: ["--http", "--http-socket", "--socket", "-s"], value: "address" }],
  always: ["--die-on-term"],
  workers: { options: ["--processes", "--workers", "-p"] },
  daemonOptions: ["--daemonize", "-d"],
  note: "Reloads on SIGTERM instead of exiting, unless it has `--die-on-term`.",
};

const baseplate: Program = {
  name: "baseplate-serve",
  executables: ["baseplate-serve"],
  serves: "http",
  port: ["--bind", "127.0.0.1:{port}"],
  descriptor: { words: [], isByPid: true, protocol: "einhorn" },
  reusePort: ["--bind", "{host}:{port}"],
  addressOptions: [{ names: ["--bind"], value: "address" }],
  reloadOptions: ["--reload"],
  note: "Takes a shared socket by Einhorn's protocol. Some versions require PROMETHEUS_MULTIPROC_DIR (`metrics.multiproc`).",
};

const celery: Program = {
  name: "celery",
  executables: ["celery"],
  modules: ["celery"],
  serves: "nothing",
  addressOptions: [],
  daemonOptions: ["--detach", "-D"],
  stopTarget: "leader",
  stopTimeout: "50s",
  note: "Stops its own children, and finishes running tasks first.",
};

export const PYTHON: readonly Program[] = [uvicorn, fastapi, gunicorn, hypercorn, granian, uwsgi, baseplate, celery];
