#!/bin/busybox sh
# First process of the guest that tests/guest.rs boots. The kernel command line says which part is to be played:
# ovs.phase=write makes a file system on the volume and fills it, ovs.phase=verify checks what is there.
# Every way out powers the machine off; only the way that went well prints the phase's marker.
/bin/busybox mkdir -p /proc /sys /dev /mnt /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
ln -sf /proc/mounts /etc/mtab

fail() {
    echo "GUEST-FAILED $*"
    poweroff -f
    sleep 60
}

while read -r module; do
    insmod "/modules/$module" || fail "insmod $module"
done </modules/order

disk=/dev/vda
tries=0
until [ -b "$disk" ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || fail "no $disk"
    usleep 100000
done

write_phase() {
    # Not busybox's: that one makes ext2.
    /sbin/mke2fs -q -F -t ext4 -E lazy_itable_init=0 "$disk" || fail mke2fs
    mount -t ext4 -o discard "$disk" /mnt || fail mount
    mkdir -p /mnt/a/b /mnt/c
    i=0
    while [ "$i" -lt 40 ]; do
        # Sizes that end in the middle of a block, in directories of different depth.
        dd if=/dev/urandom of="/mnt/a/b/file$i" bs=$((1000 + i * 977)) count=$((1 + i % 7)) 2>/dev/null || fail dd
        cp "/mnt/a/b/file$i" "/mnt/c/copy$i" || fail cp
        i=$((i + 1))
    done
    dd if=/dev/urandom of=/mnt/large bs=1M count=12 2>/dev/null || fail dd
    sync
    # Space that is given back and used again.
    rm /mnt/c/copy1* /mnt/a/b/file3 || fail rm
    sync
    dd if=/mnt/large of=/mnt/again bs=64k 2>/dev/null || fail dd
    (cd /mnt && find . -type f ! -name sums | sort | xargs sha256sum >sums) || fail sha256sum
    umount /mnt || fail umount
}

verify_phase() {
    /sbin/e2fsck -f -n "$disk" || fail e2fsck
    mount -t ext4 "$disk" /mnt || fail mount
    (cd /mnt && sha256sum -c sums >/tmp/checked) || fail "checksums: $(grep -v OK /tmp/checked | head -n 5)"
    [ "$(wc -l </mnt/sums)" -gt 50 ] || fail "only $(wc -l </mnt/sums) files"
    # The next boot's write must find a file system that can be written.
    cp /mnt/large /mnt/large2 && sync && cmp /mnt/large /mnt/large2 || fail "copy"
    rm /mnt/large2 && umount /mnt || fail umount
    /sbin/e2fsck -f -n "$disk" || fail e2fsck
}

read -r line </proc/cmdline
case "$line" in
    *ovs.phase=write*)
        write_phase
        mount -t ext4 -o ro "$disk" /mnt
        echo "GUEST-WRITTEN $(sha256sum </mnt/sums)"
        umount /mnt
        ;;
    *ovs.phase=verify*)
        verify_phase
        mount -t ext4 -o ro "$disk" /mnt
        echo "GUEST-VERIFIED $(sha256sum </mnt/sums)"
        umount /mnt
        ;;
    *) fail "no phase in: $line" ;;
esac
poweroff -f
sleep 60
