#!/bin/sh
# Creates Python environments with the servers of the examples in node_modules/.tools, for the tests. The versions are
# pinned, and nothing is done if they are installed. Without python3 or a registry it prints a message, and the tests of
# those examples are skipped.
set -eu
cd "$(dirname "$0")/.."

if ! command -v python3 >/dev/null 2>&1; then
  echo "exampleServers: python3 is missing, so the Python servers are not installed" >&2
  exit 0
fi

# install NAME PACKAGE…
install() {
  venv=$PWD/node_modules/.tools/$1
  shift
  if [ "$(cat "$venv/.wanted" 2>/dev/null || true)" = "$*" ]; then
    return
  fi
  rm -rf "$venv"
  mkdir -p "$(dirname "$venv")"
  if python3 -m venv "$venv" && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; then
    echo "$*" >"$venv/.wanted"
  else
    echo "exampleServers: $* cannot be installed" >&2
    rm -rf "$venv"
  fi
}

install venv gunicorn==27.0.1 uvicorn==0.54.0 fastapi==0.165.0 httpbin==0.10.4 prometheus-client==0.26.0
# It needs other versions of the same libraries.
install baseplate baseplate==2.7.1
