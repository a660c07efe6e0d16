#!/bin/sh
# Installs what the build and the tests need. Safe to run again; needs network only for what is missing.
set -eu

# Not `npm ci`: it wants every optional package of every platform in the lock, also those a registry mirror lacks.
# Versions are exact in package.json and their contents are pinned by the lock, which is not rewritten.
# Install scripts run below, one after the other: npm runs them with node_modules/.bin/node, which does not start on a
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

# examples/basic.yaml runs ping; the tests use setsid, setpriv and promtool where they are found.
if ! command -v ping >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends iputils-ping >/dev/null
  else
    echo "setup: ping is missing, examples/basic.yaml needs it: install iputils-ping" >&2
  fi
fi
