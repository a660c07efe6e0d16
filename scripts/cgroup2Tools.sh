#!/bin/sh
# Installs the requirements of `make test-cgroup2` if it runs as root with apt: an emulator, and Debian's kernel for virtual
# machines, which is only unpacked to node_modules/.tools/cgroup2. Otherwise it prints what is missing, and the test is
# skipped.
set -eu
cd "$(dirname "$0")/.."

missing=
for pair in qemu-system-x86_64:qemu-system-x86 cpio:cpio mke2fs:e2fsprogs; do
  command -v "${pair%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%:*}" ] || missing="$missing ${pair#*:}"
done
target=$PWD/node_modules/.tools/cgroup2
if [ "$(uname -m)" != x86_64 ]; then
  echo "cgroup2Tools: the virtual machine supports only x86_64: control groups of version 2 are not tested" >&2
  exit 0
fi
if [ -n "$missing" ] || [ ! -d "$target" ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "cgroup2Tools: only root with apt-get can install the requirements of the virtual machine:$missing linux-image" >&2
    exit 0
  fi
  apt-get update -qq >/dev/null 2>&1 || true
fi
if [ -n "$missing" ]; then
  # shellcheck disable=SC2086
  if ! apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1; then
    echo "cgroup2Tools: apt-get cannot install$missing: control groups of version 2 are not tested" >&2
    exit 0
  fi
fi

sh scripts/testTools.sh

if [ -d "$target" ]; then
  exit 0
fi
mkdir -p node_modules/.tools
# Beside its place, so that the rename at the end stays on one file system.
work=$(mktemp -d "$PWD/node_modules/.tools/.cgroup2.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
if [ -z "$package" ] || ! (cd "$work" && apt-get download -qq "$package" >/dev/null 2>&1); then
  echo "cgroup2Tools: apt-get cannot fetch a kernel: control groups of version 2 are not tested" >&2
  exit 0
fi
dpkg-deb -x "$work/$package"_*.deb "$work/package"
mkdir "$work/new"
cp "$work"/package/boot/vmlinuz-* "$work/new/vmlinuz"
# The disk's driver is a module, and those that it needs.
for module in virtio virtio_ring virtio_pci virtio_pci_modern_dev virtio_pci_legacy_dev virtio_blk; do
  find "$work/package/lib/modules" -name "$module.ko" -exec cp {} "$work/new/" \;
done
mv "$work/new" "$target"
