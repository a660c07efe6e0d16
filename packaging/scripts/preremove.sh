#!/bin/sh
# Stops the service when the package is removed (deb: remove, rpm: 0), not when it is upgraded.
case ${1:-} in
  remove | 0)
    if [ -d /run/systemd/system ]; then
      systemctl --no-reload disable --now monoceros.service || true
    fi
    ;;
esac
