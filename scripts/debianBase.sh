#!/bin/sh
# Creates node_modules/.tools/debian-base.tar: the root file system of debian:*-slim, of this machine's release, with
# Debian's package database. It is the base layer of the image, and the root in which packages are tested. mmdebstrap,
# which apt installs, makes it without installing anything else on the machine. Without root or apt it prints a message;
# then the image with this base is not made.
set -eu
cd "$(dirname "$0")/.."

target=node_modules/.tools/debian-base.tar
if [ -f "$target" ]; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "debianBase: only root with apt-get can make a Debian root: images with a Debian base are not made" >&2
  exit 0
fi
if ! command -v mmdebstrap >/dev/null 2>&1; then
  apt-get update -qq >/dev/null 2>&1 || true
  if ! apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null 2>&1; then
    echo "debianBase: apt-get cannot install mmdebstrap: images with a Debian base are not made" >&2
    exit 0
  fi
fi
# shellcheck disable=SC1091
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
for sources in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
  [ -s "$sources" ] && break
done

mkdir -p node_modules/.tools
work=$(mktemp -d "$PWD/node_modules/.tools/.debian-base.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Like slim images, without documentation but with licences. The list of sources is apt's own example, not this machine's.
example=usr/share/doc/apt/examples/sources.list
# shellcheck disable=SC2016
if ! SOURCE_DATE_EPOCH=315532800 mmdebstrap --quiet --mode=root --variant=apt \
  --include=ca-certificates,netbase,tzdata,usr-is-merged \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt="path-include=/$example" \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='cd "$1" && rm -rf etc/apt/sources.list etc/apt/sources.list.d/* &&
    if [ -f '"$example"' ]; then sed -n "s/^\(deb .* main\) .*/\1/p" '"$example"' >etc/apt/sources.list; fi &&
    rm -rf usr/share/doc/apt/examples var/cache/debconf/*-old var/log/*.log var/log/apt etc/hostname etc/resolv.conf' \
  "$release" "$work/base.tar" "$sources" >"$work/log" 2>&1; then
  tail -n 5 "$work/log" >&2
  echo "debianBase: mmdebstrap cannot make a root: images with a Debian base are not made" >&2
  exit 0
fi
mv "$work/base.tar" "$target"
