"""The application of docs/tutorial.md: each answer names the worker that gave it."""

import asyncio
import os
import time

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

GREETING = os.environ.get("GREETING", "hello")
WORKER = os.environ.get("MULTIPROCESS_WORKER_ID", "none")

app = FastAPI(default_response_class=PlainTextResponse)


@app.get("/")
async def greet():
    await asyncio.sleep(0.02)  # a query to a database
    return f"{GREETING} from {WORKER}\n"


@app.get("/healthz")
async def health():
    return "ok\n"


@app.get("/hang")
async def hang():
    time.sleep(600)  # a bug: blocks the event loop, and with it every request of this worker
