#!/bin/sh
# Builds the spawn shim (native/spawn/spawn.c) for both architectures into node_modules/.runtime/spawn-ARCHITECTURE. The
# compiler is `zig cc` from the pinned package ziglang of the Python registry. Only its executable is needed, and only
# here, so it is not kept. Does nothing where the results are up to date.
#
# The build is reproducible: native/spawn/SHA256SUMS names the results, and another result is an error. After a change of
# spawn.c, `sh scripts/spawnShim.sh --update` writes the file anew.
set -eu
cd "$(dirname "$0")/.."

version=0.17.1
case $(uname -m) in
  x86_64 | amd64)
    sha256=ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54
    ;;
  aarch64 | arm64)
    sha256=b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e
    ;;
  *)
    echo "spawnShim: $(uname -m) is not supported, only x86_64 and aarch64" >&2
    exit 1
    ;;
esac

source=native/spawn/spawn.c
sums=$PWD/native/spawn/SHA256SUMS
target=node_modules/.runtime
stamp=$target/.spawn-source
now=$(cat "$source" scripts/spawnShim.sh | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$now" ] && (cd "$target" && sha256sum --quiet -c "$sums" >/dev/null 2>&1); then
  exit 0
fi

mkdir -p "$target"
# Beside its place, so that the renames at the end stay on one file system.
work=$(mktemp -d "$PWD/$target/.spawn.XXXXXX")
trap 'rm -rf "$work"' EXIT
zig=${ZIG:-$work/zig}
if [ -z "${ZIG:-}" ]; then
  sh scripts/fetchWheel.sh ziglang "$version" "$sha256" ziglang/zig "$work/zig"
  # By this file it recognises its library, of which a program without libc uses nothing.
  mkdir -p "$work/lib/std" && : >"$work/lib/std/std.zig"
fi
for architecture in x86_64 aarch64; do
  # No word of the machine or of the path goes into the result.
  (cd "$(dirname "$source")" && ZIG_GLOBAL_CACHE_DIR=$work/cache ZIG_LOCAL_CACHE_DIR=$work/cache "$zig" cc \
    -target "$architecture-freestanding-none" -std=c17 -Os -g0 -s -Wall -Wextra -Werror -ffreestanding -fno-builtin -nostdlib \
    -static -fno-stack-protector -fno-sanitize=all -fno-unwind-tables -fno-asynchronous-unwind-tables -Wl,--build-id=none \
    -o "$work/spawn-$architecture" "$(basename "$source")")
done
if [ "${1:-}" = --update ]; then
  (cd "$work" && sha256sum spawn-aarch64 spawn-x86_64 >"$sums")
elif ! (cd "$work" && sha256sum --quiet -c "$sums"); then
  echo "spawnShim: the build gave another result than native/spawn/SHA256SUMS names; after a change of $source, run" >&2
  echo "spawnShim: sh scripts/spawnShim.sh --update" >&2
  exit 1
fi
for architecture in x86_64 aarch64; do mv "$work/spawn-$architecture" "$target/"; done
echo "$now" >"$stamp"
