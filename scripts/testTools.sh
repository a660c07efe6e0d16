#!/bin/sh
# Fetches promtool for the system tests into node_modules/.tools. It installs nothing, starts no service, and without
# apt (or without network) it only says so: the tests then check the metrics by their own rules.
set -eu
cd "$(dirname "$0")/.."

tools=$PWD/node_modules/.tools
if [ -x "$tools/promtool" ] || command -v promtool >/dev/null 2>&1; then
  exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
  echo "testTools: there is no apt-get, so no promtool" >&2
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# apt fetches as its own user where it can.
chmod 755 "$work"
download() {
  (cd "$work" && apt-get download -qq prometheus >/dev/null 2>&1)
}
if ! download; then
  # A fresh machine has no package lists yet; only root may fetch them.
  if [ "$(id -u)" != 0 ] || ! apt-get update -qq >/dev/null 2>&1 || ! download; then
    echo "testTools: apt-get cannot fetch prometheus, so no promtool" >&2
    exit 0
  fi
fi
if ! dpkg-deb -x "$work"/prometheus_*.deb "$work/root" || ! "$work/root/usr/bin/promtool" --version >/dev/null 2>&1; then
  echo "testTools: the promtool of the package prometheus does not run here" >&2
  exit 0
fi
mkdir -p "$tools"
# By rename, so that a run that is cut off leaves no half of a file.
cp "$work/root/usr/bin/promtool" "$tools/.promtool.new"
mv "$tools/.promtool.new" "$tools/promtool"
