#!/bin/sh
# Installs the requirements of `make test-container` if it runs as root with apt: podman with runc, and the slim root for
# the image. Otherwise it prints what is missing, and the tests are skipped.
set -eu
cd "$(dirname "$0")/.."

missing=
for tool in podman runc conmon; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "containerTools: only root with apt-get can install$missing: container tests are skipped" >&2
  # shellcheck disable=SC2086
  elif ! (apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing) >/dev/null 2>&1; then
    echo "containerTools: apt-get cannot install$missing: container tests are skipped" >&2
  fi
fi

sh scripts/slimRoot.sh
