#!/bin/sh
# setup.sh [others]: make everything the lab needs, in the cache: Debian's Xen, kernel and
# firmware (unpacked, never installed), dom0's root and the guests' files; with others what guests
# have of other releases, too: Linux, and OVMF.  A second run does nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../../scripts/common.sh"
HERE=$TOP/tests/xen
LAB=$CACHE/lab
PATH=$PATH:/usr/sbin:/sbin          # depmod, modprobe: they only read and write below $LAB

BUILD_PACKAGES="gcc libc6-dev make dpkg-dev libxen-dev cpio kmod python3 xz-utils zstd
    libvirt0 libwrap0"      # for the many libraries that they need
# libxl and friends are here by hand because nothing is installed that could pull them in
PACKAGES="xen-hypervisor-$XEN-amd64 xen-utils-$XEN xen-utils-common xenstore-utils
    libxenmisc$XEN libxencall1 libxendevicemodel1 libxenevtchn1 libxenforeignmemory1
    libxengnttab1 libxenhypfs1 libxenstore4 libxentoolcore1 libxentoollog1 libyajl2
    libnl-3-200 libnl-route-3-200 libfdt1 libargon2-1 liblzo2-2 libpixman-1-0 seabios
    qemu-system-data busybox-static ipxe vblade tftpd-hpa
    syslinux syslinux-common mtools dosfstools grub-pc-bin grub-common libdevmapper1.02.1
    isolinux genisoimage memtest86+ dmsetup kexec-tools $LIBMAGIC
    $LIBVIRT libvirt-daemon libvirt-daemon-driver-xen libvirt-clients"
# of the machine whose KVM has QEMU's own Xen for the guest: virtio is built in
KVM_MODULES="kvm-amd tun"
KERNELS="bullseye trixie-backports"     # with the oldest and the newest Linux of guests
OVMF=bullseye                           # has the last one with drivers of PV devices
DOM0_MODULES="xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xenfs xen-blkback xen-netback
    loop bridge tun virtio_console dm-mod dm-delay
    xen-blkfront xen-netfront"      # of a driver domain

# kernel_package: what linux-image-amd64 of the release, not of its backports, stands for
kernel_package() {
    meta=$(apt-cache madison linux-image-amd64 | awk -v of="$LINUX." 'index($3, of) == 1 { print $3; exit }')
    apt-cache show "linux-image-amd64=$meta" | grep -o "linux-image-$LINUX\.[^ ,]*" | head -n 1
}

# kvm_package: bookworm's first kernel with KVM_XEN, and trixie's, whose meta package has no version
kvm_package() {
    apt-cache show linux-image-6.12-cloud-amd64 linux-image-cloud-amd64 2>/dev/null | grep -o 'linux-image-6\.12\.[^ ,]*' | head -n 1
}

unpack_packages() {
    new=$LAB/packages.new
    rm -rf "$new"
    mkdir -p "$new/debs" "$new/root" "$new/kvm"
    # shellcheck disable=SC2086
    (cd "$new/debs" && apt-get download $PACKAGES)
    for d in "$new"/debs/*.deb; do
        case $d in
        */linux-image-*-cloud-*) dpkg -x "$d" "$new/kvm" ;;
        *) dpkg -x "$d" "$new/root" ;;
        esac
    done
    rm -rf "$new/debs"
    # as an installed system has them
    for d in root/bin root/sbin root/lib kvm/lib; do
        [ -e "$new/$d" ] || ln -s "usr/${d#*/}" "$new/$d"
    done
    gunzip -c "$new/root/boot/xen-$XEN-amd64.gz" >"$new/xen"
    # Xen's own unxz of dom0's kernel takes seconds here
    python3 "$HERE/tools/vmlinux.py" "$new"/root/boot/vmlinuz-* >"$new/vmlinux"
    kernel=$(basename "$new"/root/lib/modules/*)
    depmod -b "$new/root" "$kernel"
    echo "$kernel" >"$new/kernel"
    depmod -b "$new/kvm" "$(basename "$new"/kvm/lib/modules/*)"
    echo "$wanted" >"$new/stamp"
    rm -rf "$LAB/packages"
    mv "$new" "$LAB/packages"
}

# libraries ROOT BINARY...: copy the shared libraries that the binaries need
libraries() {
    to=$1
    shift
    mkdir -p "$to/lib64" "$to/lib/x86_64-linux-gnu"
    LD_LIBRARY_PATH=$R/usr/lib/x86_64-linux-gnu:$R/lib/x86_64-linux-gnu ldd "$@" 2>/dev/null |
        awk '$3 ~ /^\// { print $3 } $1 ~ /^\/.*[^:]$/ { print $1 }' | sort -u |
        while read -r lib; do
            case $lib in
            */ld-linux*) cp -L "$lib" "$to/lib64/" ;;
            *) cp -L "$lib" "$to/lib/x86_64-linux-gnu/" ;;
            esac
        done
}

# modules ROOT NAME...: copy kernel modules with what they depend on, as busybox loads them
modules() {
    to=$1
    shift
    for m in "$@"; do
        modprobe -d "$R" -S "$KERNEL" --show-depends "$m" | awk '$1 == "insmod" { print $2 }'
    done | sort -u | while read -r m; do
        mkdir -p "$to$(dirname "${m#"$R"}")"
        cp "$m" "$to${m#"$R"}"
    done
    find "$to/lib/modules" -name '*.xz' -exec xz -d {} +    # busybox would take longer
    for f in order builtin builtin.modinfo; do
        cp "$R/lib/modules/$KERNEL/modules.$f" "$to/lib/modules/$KERNEL/"
    done
    depmod -b "$to" "$KERNEL"
}

archive() { # archive ROOT: as a cpio for initrds, owned by root
    (cd "$1" && find . | sort | cpio -o -H newc --quiet -R 0:0)
}

# grub_image PLATFORM FILE MODULE...: a GRUB that reads grub.cfg where Linux is
grub_image() (
    platform=$1 file=$2
    shift 2
    cat >"$file.cfg" <<'C'
serial --unit=0 --speed=115200
terminal_output serial
search --set=root --file /vmlinuz
configfile /grub.cfg
C
    LD_LIBRARY_PATH="$LAB/packages/root/lib/x86_64-linux-gnu" \
        "$LAB/packages/root/usr/bin/grub-mkimage" -O "$platform" -d "$R/usr/lib/grub/$platform" \
        -p '(hd0,msdos1)/' -c "$file.cfg" -o "$file" "$@" part_msdos fat linux normal configfile \
        search search_fs_file serial terminal echo boot
    rm "$file.cfg"
)

# boot_disk DIRECTORY: boot.gz, a disk that SYSLINUX boots from, which lacks Linux, and
# grub.mbr: with that in its first sector it is GRUB.  Sectors 1 to 9 stay free for the marks
# that every disk has.
boot_disk() (
    PATH=$R/usr/bin:$R/sbin:$PATH
    export MTOOLS_SKIP_CHECK=1 LD_LIBRARY_PATH="$R/lib/x86_64-linux-gnu"
    image=$1/boot
    truncate -s 23M "$image"
    mkfs.fat -F 16 --offset 2048 -h 2048 "$image" $((22 << 10))
    syslinux --offset $((1 << 20)) --install "$image"
    put() { dd of="$image" bs=1 seek="$1" conv=notrunc status=none; }
    put 0 <"$R/usr/lib/syslinux/mbr/mbr.bin"
    # the one partition: active, FAT16 by LBA, from sector 2048, 22 MiB
    printf '\200\376\377\377\016\376\377\377\0\010\0\0\0\260\0\0' | put 446
    printf '\125\252' | put 510
    # GRUB's first two sectors know where the next one is, as grub-install would tell them
    grub_image i386-pc "$1/core" biosdisk
    put $((64 * 512)) <"$1/core"
    printf '\101' | put $((64 * 512 + 500))
    head -c 440 "$R/usr/lib/grub/i386-pc/boot.img" >"$1/grub.mbr"
    printf '\100' | dd of="$1/grub.mbr" bs=1 seek=92 conv=notrunc status=none
    gzip -9 "$image"
    rm "$1/core"
)

# more_libraries ROOT BINARY...: those that dom0 has not, not in /lib, so that driver domains, whose
# root is dom0's, do not carry them
more_libraries() {
    root=$1
    shift
    libraries "$root/usr" "$@"
    rm -r "$root/usr/lib64"
    while read -r lib; do
        rm -f "$root/usr/lib/x86_64-linux-gnu/$lib"
    done <"$new/libraries"
}

# libvirt_files ROOT: libvirtd, its driver for Xen, what it knows of CPUs, and virsh
libvirt_files() {
    drivers=usr/lib/x86_64-linux-gnu/libvirt/connection-driver
    map=usr/share/libvirt/cpu_map
    mkdir -p "$1/usr/bin" "$1/usr/sbin" "$1/$map" "$1/$drivers"
    cp "$R/usr/sbin/libvirtd" "$1/usr/sbin/"
    cp "$R/usr/bin/virsh" "$1/usr/bin/"
    cp "$R/$drivers/libvirt_driver_libxl.so" "$1/$drivers/"
    cp "$R/$map/x86_features.xml" "$1/$map/"
    more_libraries "$1" "$1/usr/sbin/libvirtd" "$1/usr/bin/virsh" "$1/$drivers"/*
}

# only SCENARIO PROGRAM: that nobody else's dom0 has
only() {
    only=$new/only/$1/usr/bin
    mkdir -p "$only"
    cp "$R/$2" "$only/"
    more_libraries "$new/only/$1" "$only"/*
}

# kvm_machine GUEST: a machine with KVM and the files in GUEST that it needs, as an initrd without
# QEMU, and its kernel
kvm_machine() (
    n=$new/nested
    mkdir -p "$n/bin" "$n/sbin" "$n/proc" "$n/sys" "$n/dev" "$n/tmp" "$n/guest" "$n/usr/bin" "$n/usr/share/qemu"
    cp "$R/bin/busybox" "$n/bin/"
    cp "$R/usr/sbin/vblade" "$n/usr/bin/"
    cp "$new"/bios/* "$n/usr/share/qemu/"
    for f in vmlinuz initrd ipxe.lkrn labfw.rom san.img; do
        cp "$1/$f" "$n/guest/"
    done
    cp "$HERE/nested/init" "$n/"
    chmod +x "$n/init"
    R=$LAB/packages/kvm KERNEL=$(basename "$LAB"/packages/kvm/lib/modules/*)
    # shellcheck disable=SC2086
    modules "$n" $KVM_MODULES
    archive "$n" >"$new/kvm.cpio"
    cp "$R/boot/vmlinuz-$KERNEL" "$new/kvm-vmlinuz"
    rm -rf "$n"
)

make_image() {
    R=$LAB/packages/root
    KERNEL=$(cat "$LAB/packages/kernel")
    new=$LAB/image.new
    rm -rf "$new"
    mkdir -p "$new/bios" "$new/firmware"
    cp "$R/usr/share/seabios/bios-256k.bin" "$new/bios/"
    for f in linuxboot_dma multiboot_dma kvmvapic; do
        cp "$R/usr/share/qemu/$f.bin" "$new/bios/"
    done
    make -s -C "$HERE/firmware" OUT="$new/firmware"

    # the guest: busybox, the PV frontends and drivers of what is emulated
    g=$new/guest
    mkdir -p "$g/bin" "$g/sbin" "$g/proc" "$g/sys" "$g/dev" "$g/usr/bin"
    cp "$R/bin/busybox" "$g/bin/"
    cp "$HERE/guest/init" "$g/"
    chmod +x "$g/init"
    modules "$g" xen-blkfront xen-netfront ata_piix sd_mod 8139cp

    # dom0's first stage fills the root from disks: big initrds load slowly
    s=$new/stage1
    mkdir -p "$s/bin" "$s/sbin" "$s/proc" "$s/sys" "$s/dev" "$s/new"
    cp "$R/bin/busybox" "$s/bin/"
    cp "$HERE/dom0/stage1" "$s/init"
    chmod +x "$s/init"
    modules "$s" virtio_pci virtio_blk
    archive "$s" >"$new/stage1.cpio"

    # dom0
    t=$new/dom0
    x=usr/lib/xen-$XEN
    for d in bin sbin proc sys dev run tmp out lab guest var/lib/xen var/log/xen etc/xen/scripts \
        usr/bin usr/share/qemu/keymaps usr/share/seabios $x/bin $x/boot; do
        mkdir -p "$t/$d"
    done
    ln -s "xen-$XEN" "$t/usr/lib/xen"
    ln -s ../run "$t/var/run"
    ln -s ../run/lock "$t/var/lock"
    cp "$R/bin/busybox" "$t/bin/"
    for f in xl libxl-save-helper xenstored oxenstored xenstore-control xen-init-dom0 xenconsoled; do
        cp "$R/$x/bin/$f" "$t/$x/bin/"
    done
    [ ! -e "$R/$x/ocaml" ] || cp -r "$R/$x/ocaml" "$t/$x/"     # oxenstored's plugin, from 4.20 on
    cp "$R/$x/boot/hvmloader" "$t/$x/boot/"
    cp "$R/usr/sbin/vblade" "$t/usr/bin/"
    for f in chmod ls read rm watch write; do
        cp "$R/usr/bin/xenstore-$f" "$t/usr/bin/"
    done
    # libxl looks for it there, where Debian has a wrapper of it
    cp "$R/$x/bin/vchan-socket-proxy" "$t/usr/bin/"
    cp "$R/etc/xen/xl.conf" "$R/etc/xen/oxenstored.conf" "$t/etc/xen/"
    cp "$R/usr/share/seabios/bios-256k.bin" "$t/usr/share/seabios/"
    # "-vnc none" reads the keymap all the same
    cp "$R/usr/share/qemu/keymaps/en-us" "$t/usr/share/qemu/keymaps/"
    for f in linuxboot linuxboot_dma kvmvapic; do
        cp "$R/usr/share/qemu/$f.bin" "$t/usr/share/qemu/"
    done
    gcc -O2 -Wall -o "$t/usr/bin/xswatch" "$HERE/tools/xswatch.c" -lxenstore
    gcc -O2 -Wall -o "$t/usr/bin/xsawait" "$HERE/tools/xsawait.c" -lxenstore
    gcc -O2 -Wall -o "$t/usr/bin/xsring" "$HERE/tools/xsring.c" -lxenctrl -lxenforeignmemory
    gcc -O2 -Wall -o "$t/usr/bin/grants" "$HERE/tools/grants.c" -lxenctrl -lxenforeignmemory
    gcc -O2 -Wall -o "$t/usr/bin/qmp" "$HERE/tools/qmp.c"
    gcc -O2 -Wall -o "$t/usr/bin/xenstore-filter" "$TOP/packaging/xenstore-filter.c" -lxenctrl -lxenstore
    gcc -O2 -Wall -o "$t/usr/bin/int13disk" "$HERE/tools/int13disk.c"
    cp "$R/usr/bin/mtools" "$t/usr/bin/mcopy"
    cp "$R/usr/bin/genisoimage" "$t/usr/bin/"
    cp "$R/usr/lib/ISOLINUX/isolinux.bin" "$R/usr/lib/syslinux/modules/bios/ldlinux.c32" "$t/guest/"
    gcc -O2 -Wall -o "$t/usr/bin/baseline" "$HERE/tools/baseline.c" -lxenstore
    cp "$HERE/tools/by-hand.sh" "$t/usr/bin/"
    chmod +x "$t/usr/bin/by-hand.sh"
    cp "$HERE/dom0/block" "$HERE/dom0/vif-bridge" "$t/etc/xen/scripts/"
    chmod +x "$t"/etc/xen/scripts/*
    libraries "$t" "$t/$x"/bin/* "$t"/usr/bin/*
    cp -L /lib/x86_64-linux-gnu/libgcc_s.so.1 "$t/lib/x86_64-linux-gnu/"    # pthread_cancel() loads it
    # shellcheck disable=SC2086
    modules "$t" $DOM0_MODULES
    cp "$R/boot/vmlinuz-$KERNEL" "$t/guest/vmlinuz"
    archive "$g" >"$t/guest/initrd"
    gzip -1 <"$LAB/packages/vmlinux" >"$t/guest/vmlinux.gz"   # for PV guests: unxz takes libxl 20 s
    cp "$HERE/guest/driver" "$HERE/guest/stub" "$t/guest/"
    chmod +x "$t/guest/driver" "$t/guest/stub"
    python3 "$HERE/tools/qcow2.py" $((16 << 20)) >"$t/guest/qcow2"
    # in /boot or not, whichever is not a link
    find "$R/boot" "$R/usr/lib/ipxe" -name ipxe.lkrn -type f -exec cp {} "$t/guest/" \;
    cp "$new/firmware/labfw.rom" "$new/firmware/san.img" \
        "$new/firmware/labfw.efi" "$new/firmware/int13.img" "$t/guest/"
    cp "$R/boot/memtest86+x64.bin" "$t/guest/memtest"
    boot_disk "$t/guest"
    kvm_machine "$t/guest"
    ls "$t/lib/x86_64-linux-gnu" >"$new/libraries"
    libvirt_files "$new/only/libvirt"
    only ipxe-pxe usr/sbin/in.tftpd
    only storage sbin/dmsetup
    only kexec sbin/kexec
    tar cf "$new/dom0.tar" --owner=0 --group=0 -C "$t" .

    # labs may run on an older image, so every image has its own directory
    rm -rf "$g" "$s" "$t" "$new/firmware"
    ln "$LAB/packages/xen" "$LAB/packages/vmlinux" "$new/"
    echo "Xen $XEN and Linux $LINUX of Debian $DEBIAN" >"$new/host"
    touch "$new/in-use"
    rm -rf "$LAB/image-$key"
    mv "$new" "$LAB/image-$key"
    ln -sfn "image-$key" "$LAB/image.new"
    mv -T "$LAB/image.new" "$LAB/image"
    for old in "$LAB"/image-*; do
        [ "$old" = "$LAB/image-$key" ] || flock -n "$old/in-use" rm -rf "$old" || :
    done
}

# other_kernel SUITE: the Linux of another release for guests, in $LAB/kernels/SUITE
other_kernel() (
    EXTRA="deb $1"
    apt_setup
    image=$(apt-cache show "linux-image-cloud-amd64/$1" 2>/dev/null | grep -o 'linux-image-[0-9][^ ,]*' | head -n 1)
    [ -n "$image" ] ||
        die "the mirror has no Linux of $1 (any more): take it out of KERNELS in tests/xen/setup.sh and of tests/xen/matrix.py"
    KERNEL=${image#linux-image-} there=$LAB/kernels/$1 new=$LAB/kernels/new
    [ "$KERNEL" != "$(cat "$there/version" 2>/dev/null)" ] || return 0
    rm -rf "$new"
    mkdir -p "$new/debs" "$new/root" "$new/initrd"
    # from Linux 7.3 on it is in others, and an image only depends on them
    for p in "linux-base-$KERNEL" "linux-binary-$KERNEL" "linux-modules-$KERNEL"; do
        ! apt-cache show "$p" >/dev/null 2>&1 || image="$image $p"
    done
    # shellcheck disable=SC2086
    (cd "$new/debs" && apt-get download $image)
    for d in "$new"/debs/*.deb; do
        dpkg -x "$d" "$new/root"
    done
    R=$new/root
    [ -e "$R/lib" ] || ln -s usr/lib "$R/lib"
    depmod -b "$R" "$KERNEL"
    modules "$new/initrd" xen-blkfront xen-netfront
    archive "$new/initrd" >"$new/modules.cpio"
    cp "$(find "$R/boot" "$R/lib/modules/$KERNEL" -name 'vmlinuz*' -type f 2>/dev/null)" "$new/vmlinuz"
    echo "$KERNEL" >"$new/version"
    rm -rf "$there" "$new/debs" "$new/root" "$new/initrd"
    mv "$new" "$there"
)

# ovmf: it and a GRUB that it boots, in $LAB/ovmf
ovmf() (
    EXTRA="deb $OVMF"
    apt_setup
    there=$LAB/ovmf new=$LAB/ovmf.new
    packages="ovmf/$OVMF grub-efi-amd64-bin/$SUITE"
    # shellcheck disable=SC2086
    uris=$(apt-get download --print-uris $packages) ||
        die "the mirror has no OVMF of $OVMF (any more): take it out of tests/xen/setup.sh and of tests/xen/matrix.py"
    [ "$uris" != "$(cat "$there/version" 2>/dev/null)" ] || return 0
    rm -rf "$new"
    mkdir -p "$new/debs" "$new/root"
    # shellcheck disable=SC2086
    (cd "$new/debs" && apt-get download $packages)
    for d in "$new"/debs/*.deb; do
        dpkg -x "$d" "$new/root"
    done
    R=$new/root
    cp "$R/usr/share/ovmf/OVMF.fd" "$new/"
    grub_image x86_64-efi "$new/grub.efi"
    echo "$uris" >"$new/version"
    rm -rf "$there" "$new/debs" "$new/root"
    mv "$new" "$there"
)

# image_key: what the image is made of
image_key() {
    (cd "$HERE" && {
        cat "$LAB/packages/stamp"
        find setup.sh dom0/stage1 dom0/block dom0/vif-bridge guest nested tools firmware \
            ../../packaging/xenstore-filter.c -type f | sort |
            xargs sha256sum
    } | sha256sum | cut -c 1-16)
}

# up_to_date: whether a check of today found what would be made now; needs neither the lock
# nor apt, so that a lab can start while QEMU is being built
up_to_date() {
    [ -n "$(find "$LAB/checked" -mtime -1 2>/dev/null)" ] && [ -e "$LAB/image/dom0.tar" ] &&
        [ "$(readlink "$LAB/image")" = "image-$(image_key)" ]
}

case ${1:-} in '' | others) ;; *) die "usage: tests/xen/setup.sh [others]" ;; esac
[ "${1:-}" = others ] || ! up_to_date || { say "the lab is ready in $LAB"; exit 0; }
need_space 1500
mkdir -p "$CACHE/log" "$LAB"
one_at_a_time
apt_setup
# shellcheck disable=SC2086
apt_install $BUILD_PACKAGES
PACKAGES="$(kernel_package) $(kvm_package) $PACKAGES"
# shellcheck disable=SC2086
wanted=$(apt-get download --print-uris $PACKAGES | awk '{ print $2 }' | sort)
[ "$wanted" = "$(cat "$LAB/packages/stamp" 2>/dev/null)" ] ||
    logged "fetching Xen, a kernel and firmware from Debian" "$CACHE/log/lab-packages.log" unpack_packages
key=$(image_key)
[ "image-$key" = "$(readlink "$LAB/image" 2>/dev/null)" ] ||
    logged "making the lab's image" "$CACHE/log/lab-image.log" make_image
touch "$LAB/checked"
if [ "${1:-}" = others ]; then
    for s in $KERNELS; do
        logged "fetching the Linux of $s for guests" "$CACHE/log/lab-kernels.log" other_kernel "$s"
    done
    logged "fetching OVMF of $OVMF for guests" "$CACHE/log/lab-ovmf.log" ovmf
fi
say "the lab is ready in $LAB"
