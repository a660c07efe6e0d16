"""An ASGI application: each answer names its worker; ?ms= makes it wait without blocking the others."""

import asyncio
import os
from urllib.parse import parse_qs

WORKER = os.environ.get("MULTIPROCESS_WORKER_ID", "alone")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] != "http":
        return
    query = parse_qs(scope["query_string"].decode())
    await asyncio.sleep(float(query.get("ms", ["0"])[0]) / 1000)
    body = b"ok\n" if scope["path"] == "/healthz" else f"hello from {WORKER}\n".encode()
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(body)).encode()),
        (b"x-worker-id", WORKER.encode()),
        (b"x-worker-pid", str(os.getpid()).encode()),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
