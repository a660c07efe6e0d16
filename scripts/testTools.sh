#!/bin/sh
# Fetches optional tools of the system tests to node_modules/.tools: promtool, and BusyBox as the shell of a small image.
# Chromium is installed by apt if this runs as root. Starts no service. Without apt or the network it prints a message. The
# tests then check metrics only by their own rules, and skip the small image and the browser.
set -eu
cd "$(dirname "$0")/.."

tools=$PWD/node_modules/.tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# apt may download as its own user.
chmod 755 "$work"

download() {
  (cd "$work" && apt-get download -qq "$1" >/dev/null 2>&1)
}

# fetch PACKAGE FILE: extracts FILE from PACKAGE.
fetch() {
  package=$1
  file=$2
  name=${file##*/}
  if [ -x "$tools/$name" ] || command -v "$name" >/dev/null 2>&1; then
    return 0
  fi
  if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    echo "testTools: there is no apt-get, so no $name" >&2
    return 0
  fi
  if ! download "$package"; then
    # A fresh machine has no package lists yet; only root may fetch them.
    if [ "$(id -u)" != 0 ] || ! apt-get update -qq >/dev/null 2>&1 || ! download "$package"; then
      echo "testTools: apt-get cannot fetch $package, so no $name" >&2
      return 0
    fi
  fi
  if ! dpkg-deb -x "$work/$package"_*.deb "$work/root" || ! "$work/root/$file" --help >/dev/null 2>&1; then
    echo "testTools: the $name of the package $package does not run here" >&2
    return 0
  fi
  mkdir -p "$tools"
  # By rename, so that an interrupted run leaves no incomplete file.
  cp "$work/root/$file" "$tools/.$name.new"
  mv "$tools/.$name.new" "$tools/$name"
}

# The dashboard is tested in a real browser. Its package has many files, so it is installed if that is permitted.
if ! command -v chromium >/dev/null 2>&1; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "testTools: chromium is missing and only root with apt-get can install it: the dashboard is not tested" >&2
  elif ! (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) >/dev/null 2>&1; then
    echo "testTools: apt-get cannot install chromium: the dashboard is not tested" >&2
  fi
fi

fetch prometheus usr/bin/promtool
fetch busybox-static bin/busybox

sh scripts/slimRoot.sh
