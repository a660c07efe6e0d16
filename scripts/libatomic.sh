#!/bin/sh
# Puts libatomic.so.1 into node_modules/.runtime. The pinned runtime needs it, and Debian's essential packages lack it. The
# build copies it beside the executable.
#
# apt-get downloads the package libatomic1 and verifies Debian's signature; root is not needed and nothing is installed.
# Without apt the system's own copy is used. Does nothing if the file exists. `libatomic.sh arm64` gets the library of
# another machine into node_modules/.runtime/arm64.
set -eu
cd "$(dirname "$0")/.."

machine=${1:-$(uname -m)} target=node_modules/.runtime${1:+/$1}/libatomic.so.1
# Builds that were tested: Debian 12 (12.2.0-14+deb12u1) and Debian 13 (14.2.0-19).
case $machine in
  x86_64 | amd64 | x64)
    debian=amd64
    tested="107ab9f7661a1c47cddfb5cd1def99ec537a50a9a537fbe38cdde1b34b8ba280
      9558489f171274c220104894258f483055853ed8a23d4ff754c850ce55765aa2"
    ;;
  aarch64 | arm64)
    debian=arm64
    tested="c90c21008853899dfa102eeaa43b703c2bf41553dd56b13aac6da2803d5884b7
      6465c95aef505776652e9caf582d54c67b8e6314ae5a26973bd188b8f5d56c8e"
    ;;
  *)
    echo "libatomic: $machine is not supported, only x86_64 and aarch64" >&2
    exit 1
    ;;
esac

if [ -f "$target" ]; then
  exit 0
fi
mkdir -p "$(dirname "$target")"
# In the same directory, so that the final rename stays on one file system.
work=$(mktemp -d "$PWD/node_modules/.runtime/.libatomic.XXXXXX")
trap 'rm -rf "$work"' EXIT

foreign=${1:-}
# download: the package into $work, by the package lists of the machine or, if there are none, by lists of our own.
download() {
  [ -z "$foreign" ] && (cd "$work" && apt-get -o APT::Sandbox::User=root download -qq libatomic1 >/dev/null 2>&1) && return 0
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  set -- -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root -o Acquire::Languages=none
  [ -z "$foreign" ] || set -- "$@" -o APT::Architecture="$debian" -o APT::Architectures="$debian"
  (cd "$work" && apt-get "$@" update -qq >/dev/null 2>&1 && apt-get "$@" download -qq libatomic1 >/dev/null 2>&1)
}

found=
if command -v apt-get >/dev/null 2>&1 && command -v dpkg-deb >/dev/null 2>&1; then
  if download && dpkg-deb -x "$work"/libatomic1_*.deb "$work/root"; then
    found=$(ls "$work"/root/usr/lib/*/libatomic.so.1)
    origin=$(basename "$work"/libatomic1_*.deb)
  else
    echo "libatomic: apt-get cannot download libatomic1; trying the system's own copy" >&2
  fi
fi
if [ -z "$found" ] && [ -z "$foreign" ]; then
  for file in /usr/lib/*-linux-gnu/libatomic.so.1 /lib64/libatomic.so.1 /usr/lib64/libatomic.so.1 /usr/lib/libatomic.so.1; do
    if [ -f "$file" ]; then
      found=$file
      origin=$file
      break
    fi
  done
fi
if [ -z "$found" ]; then
  echo "libatomic: libatomic.so.1 is missing: install the package libatomic1 (Debian) or libatomic (Fedora)" >&2
  exit 1
fi

cp -L "$found" "$work/libatomic.so.1"
sha256=$(sha256sum "$work/libatomic.so.1" | cut -d ' ' -f 1)
case " $tested " in
  *"$sha256"*) ;;
  *) echo "libatomic: warning: $origin is not one of the tested builds (sha256 $sha256)" >&2 ;;
esac
chmod 644 "$work/libatomic.so.1"
mv "$work/libatomic.so.1" "$target"
