#!/bin/sh
# Fetches what runs programs for arm64 on another machine to node_modules/.tools/arm64: an emulator, and the libraries of
# Debian that packages require. Installs nothing. Without apt it prints a message; then no package for arm64 is run.
set -eu
cd "$(dirname "$0")/.."

target=$PWD/node_modules/.tools/arm64
if [ -d "$target" ] || [ "$(uname -m)" = aarch64 ]; then
  exit 0
fi
mkdir -p node_modules/.tools
work=$(mktemp -d "$PWD/node_modules/.tools/.arm64.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/new/root"

# Package lists of our own, because the machine's are those of its architecture.
foreign() {
  apt-get -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root \
    -o Acquire::Languages=none -o APT::Architecture=arm64 -o APT::Architectures=arm64 -qq "$@" >/dev/null 2>&1
}
own() {
  apt-get -o APT::Sandbox::User=root -qq "$@" >/dev/null 2>&1
}
if ! cd "$work" || ! { own download qemu-user-static || { own update && own download qemu-user-static; }; } ||
  ! foreign update || ! foreign download libc6 libgcc-s1 libstdc++6; then
  echo "arm64Tools: apt-get cannot fetch an emulator and libraries: packages for arm64 are not run" >&2
  exit 0
fi
dpkg-deb -x qemu-user-static_*.deb qemu
for package in libc6_* libgcc-s1_* libstdc++6_*; do
  dpkg-deb -x "$package" new/root
done
mv qemu/usr/bin/qemu-aarch64-static new/qemu
mv new "$target"
