"""A WSGI application: each answer names its worker; ?ms= makes it wait, as a query to a database does."""

import os
import time
from urllib.parse import parse_qs

WORKER = os.environ.get("MULTIPROCESS_WORKER_ID", "alone")


def app(environ, start_response):
    query = parse_qs(environ.get("QUERY_STRING", ""))
    time.sleep(float(query.get("ms", ["0"])[0]) / 1000)
    body = b"ok\n" if environ["PATH_INFO"] == "/healthz" else f"hello from {WORKER}\n".encode()
    headers = [
        ("content-type", "text/plain"),
        ("content-length", str(len(body))),
        ("x-worker-id", WORKER),
        ("x-worker-pid", str(os.getpid())),
    ]
    start_response("200 OK", headers)
    return [body]
