#!/usr/bin/env node
// A Node.js server: each answer names its worker; ?ms= makes it wait. It listens on --port (with --reuseport on a port
// that others may have as well), on the Unix socket --uds, or on an inherited descriptor --fd.
import { createServer } from "node:http";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    port: { type: "string" },
    host: { type: "string", default: "127.0.0.1" },
    reuseport: { type: "boolean", default: false },
    uds: { type: "string" },
    fd: { type: "string" },
  },
});
const worker = process.env.MULTIPROCESS_WORKER_ID ?? "alone";

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://server");
  response.setHeader("content-type", "text/plain");
  response.setHeader("x-worker-id", worker);
  response.setHeader("x-worker-pid", process.pid);
  const text = url.pathname === "/healthz" ? "ok\n" : `hello from ${worker}\n`;
  setTimeout(
    () => {
      // A connection that is busy while the server stops ends with its answer.
      if (!server.listening) response.setHeader("connection", "close");
      response.end(text);
    },
    Number(url.searchParams.get("ms") ?? 0),
  );
});

if (values.fd !== undefined) server.listen({ fd: Number(values.fd) });
else if (values.uds !== undefined) server.listen({ path: values.uds });
else server.listen({ port: Number(values.port ?? 8000), host: values.host, reusePort: values.reuseport });

// Running requests are answered, then the process ends by itself.
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => server.close());
