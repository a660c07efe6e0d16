/** Servers and job runners in Ruby. */
import type { Program } from "./program.ts";

const puma: Program = {
  name: "puma",
  executables: ["puma"],
  serves: "http",
  port: ["--bind", "tcp://127.0.0.1:{port}"],
  descriptor: { words: ["--bind-to-activated-sockets", "only"], isByPid: true },
  addressOptions: [
    { names: ["--bind", "-b"], value: "address" },
    { names: ["--port", "-p"], value: "port" },
  ],
  workers: { options: ["--workers", "-w"], variable: "WEB_CONCURRENCY", none: ["--workers", "0"] },
  keepAlive: { ms: 20_000 },
  workerKeepAlive: "10s",
  daemonOptions: ["--daemon", "-d"],
  note: "Finds a shared socket by `LISTEN_FDS`. Options take precedence over `config/puma.rb`.",
};

const unicorn: Program = {
  name: "unicorn",
  executables: ["unicorn", "unicorn_rails"],
  serves: "http",
  port: ["--listen", "127.0.0.1:{port}"],
  addressOptions: [
    { names: ["--listen", "-l"], value: "address" },
    { names: ["--port", "-p"], value: "port" },
    { names: ["--host", "-o"], value: "host" },
  ],
  daemonOptions: ["--daemonize", "-D"],
  stop: { signal: "SIGQUIT", onTerm: "aborts its requests" },
  note: "Stops gracefully on SIGQUIT only. Leave `worker_processes` out of its configuration file.",
};

const thin: Program = {
  name: "thin",
  executables: ["thin"],
  serves: "http",
  port: ["--address", "127.0.0.1", "--port", "{port}"],
  addressOptions: [
    { names: ["--port", "-p"], value: "port" },
    { names: ["--address", "-a"], value: "host" },
    { names: ["--socket", "-S"], value: "socket" },
  ],
  workers: { options: ["--servers", "-s"] },
  daemonOptions: ["--daemonize", "-d"],
  note: "Takes no shared socket.",
};

const sidekiq: Program = {
  name: "sidekiq",
  executables: ["sidekiq"],
  serves: "nothing",
  addressOptions: [],
  daemonOptions: ["--daemon", "-d"],
  stopTimeout: "30s",
  note: "Pushes unfinished jobs back after 25 s by itself.",
};

export const RUBY: readonly Program[] = [puma, unicorn, thin, sidekiq];
