"""Sends requests from eight connections until Ctrl-C or for the given seconds, then counts: python load.py [SECONDS]"""

import http.client
import sys
import threading
import time

HOST, CONNECTIONS = "127.0.0.1:8000", 8
answered, failed = [], []
stop = threading.Event()


def client():
    connection = http.client.HTTPConnection(HOST, timeout=10)
    while not stop.is_set():
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            response.read()
            (answered if response.status == 200 else failed).append(response.status)
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
            connection.close()


threads = [threading.Thread(target=client) for _ in range(CONNECTIONS)]
for thread in threads:
    thread.start()
try:
    time.sleep(float(sys.argv[1]) if len(sys.argv) > 1 else 3600)
except KeyboardInterrupt:
    pass
stop.set()
for thread in threads:
    thread.join()
print(f"{len(answered)} answered, {len(failed)} failed", *sorted(set(map(str, failed))))
