#!/bin/sh
# Creates the root file system of a slim image in node_modules/.tools/slim-root, for tests that run the executable in it:
# Debian's essential packages, and the few that debian:*-slim images add, of this machine's release. Nothing is installed
# on the machine. Without apt or root it prints a message, and the tests are skipped.
set -eu
cd "$(dirname "$0")/.."

root=$PWD/node_modules/.tools/slim-root
if [ -d "$root" ]; then
  exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
  echo "slimRoot: only root with apt-get can make a slim root: the start in a slim image is not tested" >&2
  exit 0
fi
mkdir -p node_modules/.tools
# In the same directory, so that the final rename stays on one file system.
work=$(mktemp -d "$PWD/node_modules/.tools/.slim-root.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/archives/partial" "$work/root"
# With an empty list of installed packages apt downloads all dependencies.
: >"$work/status"

download() {
  apt-get -o "Dir::State::status=$work/status" -o "Dir::Cache::archives=$work/archives" \
    -o Debug::NoLocking=1 -o APT::Sandbox::User=root -qq -y --no-install-recommends --download-only \
    install '?essential' usr-is-merged apt ca-certificates netbase tzdata >/dev/null 2>&1
}
# A fresh machine has no package lists yet.
if ! download && ! { apt-get update -qq >/dev/null 2>&1 && download; }; then
  echo "slimRoot: apt-get cannot fetch the essential packages: the start in a slim image is not tested" >&2
  exit 0
fi

for directory in bin sbin lib lib64; do
  mkdir -p "$work/root/usr/$directory"
  ln -s "usr/$directory" "$work/root/$directory"
done
for package in "$work"/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/root" --keep-directory-symlink
done
# Do what the packages' scripts would do, as far as programs need it.
cp "$work/root/usr/share/base-passwd/passwd.master" "$work/root/etc/passwd"
cp "$work/root/usr/share/base-passwd/group.master" "$work/root/etc/group"
# Slim images omit these.
for directory in doc info locale man; do
  rm -rf "$work/root/usr/share/$directory"
done
mkdir -p "$work/root/opt/monoceros" "$work/root/proc" "$work/root/dev" "$work/root/tmp"
mv "$work/root" "$root"
