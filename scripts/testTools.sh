#!/bin/sh
# Fetches what the system tests use where they find it into node_modules/.tools: promtool, and BusyBox to play the shell
# of a small image; Chromium is installed, by apt, where root runs this. It starts no service, and without apt (or without
# network) it only says so: the tests then check the metrics by their own rules, and do without the small image and the
# browser.
set -eu
cd "$(dirname "$0")/.."

tools=$PWD/node_modules/.tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# apt fetches as its own user where it can.
chmod 755 "$work"

download() {
  (cd "$work" && apt-get download -qq "$1" >/dev/null 2>&1)
}

# fetch PACKAGE FILE: takes FILE out of PACKAGE.
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
  # By rename, so that a run that is cut off leaves no half of a file.
  cp "$work/root/$file" "$tools/.$name.new"
  mv "$tools/.$name.new" "$tools/$name"
}

# The dashboard is tested in a real browser. It is a package of many files, so it is installed, where that is allowed.
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
