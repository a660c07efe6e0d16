#!/bin/sh
# Installs the requirements of the build and the tests. Safe to run again. Needs the network only for missing parts.
set -eu

# Not `npm ci`, which requires the optional packages of all platforms in the lock, also those that a registry mirror lacks.
# Versions are exact in package.json and their contents are pinned by the lock, which is not rewritten.
# Install scripts run below one after another, because npm runs them with node_modules/.bin/node, which does not start on a
# machine without libatomic1 until scripts/runtime.mjs has replaced it.
if [ ! -x node_modules/.bin/node ] || ! npm ls --silent >/dev/null 2>&1; then
  npm install --no-save --no-fund --no-audit --ignore-scripts
fi
if [ ! -x node_modules/node/bin/node ]; then
  npm rebuild node
fi
node scripts/runtime.mjs
# Programs that run from source, such as tests, start processes through it.
sh scripts/spawnShim.sh
if ! node_modules/.bin/esbuild --version >/dev/null 2>&1; then
  npm rebuild esbuild
fi

# examples/basic.yaml runs ping; the tests use setsid, setpriv and promtool if available.
if ! command -v ping >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends iputils-ping >/dev/null
  else
    echo "setup: ping is missing, examples/basic.yaml needs it: install iputils-ping" >&2
  fi
fi
