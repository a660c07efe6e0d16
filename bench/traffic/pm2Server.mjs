// examples/servers/server.mjs for PM2, whose cluster workers see the arguments of PM2 in the place of their own.
process.argv.splice(2, Number.POSITIVE_INFINITY, "--port", process.env.SERVER_PORT ?? "");
await import("../../examples/servers/server.mjs");
