#!/bin/busybox sh
# The first program of the virtual machine. It loads the disk driver and starts guest.sh from the disk.
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
  /bin/busybox insmod "/lib/$module.ko"
done
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do
  /bin/busybox sleep 0.1
  tries=$((tries + 1))
done
/bin/busybox mount -t ext4 /dev/vda /root
exec /bin/busybox switch_root /root /bin/sh /test/guest.sh
