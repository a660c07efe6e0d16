#!/bin/sh
# Neither enables nor starts the service, and an upgrade does not restart it: a running controller keeps its version until
# `systemctl restart monoceros`.
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload || true
fi
