# What scenarios are made of.  Sourced by dom0's init; busybox sh.  The guest of a scenario
# is a domain of the same name; $OUT is the directory that goes back to the host.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# --- messages and waits --------------------------------------------------------------

now() { read -r up _ </proc/uptime; echo "$up"; }
say() { read -r up _ </proc/uptime; echo "LAB[$up]: ${SCENARIO:+$SCENARIO: }$*"; }
fail() { say "FAIL: $*"; exit 1; }
event() { read -r up _ </proc/uptime; echo "$up $*" >>"$OUT/events.log"; }

# await SECONDS WHAT COMMAND...: until COMMAND succeeds; says so first, for whoever reads
# the console of a lab that hangs
await() {
    limit=$(($1 * PATIENCE)) what=$2
    shift 2
    say "waiting for $what ($limit s at most)"
    read -r up _ </proc/uptime
    end=$((${up%.*} + limit))
    until "$@"; do
        read -r up _ </proc/uptime
        [ "${up%.*}" -lt $end ] || fail "no $what within $limit s"
        sleep 0.1
    done
}

# --- the guest -----------------------------------------------------------------------

marks() {   # marks N: the first sectors of disk N, which say what they are
    for sector in 0 1 2 3 4 5 6 7 8 9; do
        printf '%-511s\n' "LABDISK$1 sector $sector"
    done
}

disk() {    # disk N: an image with such sectors, unless it is there
    image=/tmp/$SCENARIO-disk$1.img
    [ ! -e "$image" ] || return 0
    marks "$1" >"$image"
    truncate -s 16M "$image"
}

qcow2() {   # qcow2 N: make disk N, with an image in this format
    disk "$1"
    mv "$image" "$image.raw"
    cat /guest/qcow2 "$image.raw" >"$image"
    QCOW2=$1
}

# before and behind each step the OS proves that its connection to xenstore lives
OPENBSD="callback watch early request unplug=3 reply late"

# debug: stop the device model until gdb, outside, lets it go on
traced() { ! grep -q '^TracerPid:[[:space:]]*0$' "/proc/$1/status"; }
debug() {
    pid=$(model_pid)
    exec 3<>/dev/vport0p2
    say "the device model waits for gdb"
    echo >&3    # is written when gdb is there, which gdbserver takes for granted
    gdbserver --attach - "$pid" <&3 >&3 2>"$OUT/gdbserver.log" &
    await 60 gdbserver traced "$pid"
}

present() { # the toolstack has made the guest
    DOMID=$(xl domid "$SCENARIO")
    echo "$DOMID" >"$OUT/domid"
    event created
    xenstore-ls -fp /local/domain >"$OUT/snapshot-created-xenstore.txt"
}

# model: the lines of the config about the device model under test: our binary, or the
# package's, that knows by itself where Debian has its data
model() {
    if [ -d /lab/debs ]; then
        grep '^device_model_override' "$EXAMPLE"
        echo 'device_model_args = [ ]'
    else
        echo 'device_model_override = "/lab/qemu-dm"'
        echo 'device_model_args = [ "-L", "/usr/share/qemu", "-L", "/usr/share/seabios" ]'
    fi
}
# as_installed: what the package has in /usr/libexec, for who has to name that
as_installed() {
    mkdir -p /usr/libexec/xen-fw-handoff
    ln -sf /lab/qemu-dm /usr/libexec/xen-fw-handoff/qemu-system-i386
    ln -sf /usr/bin/xenstore-filter /usr/libexec/xen-fw-handoff/
}

# restricted LINE...: make a guest with dm_restrict=1, by the package's wrapper
restricted() {
    echo 'xen-qemuuser-range-base:x:65536:65536::/:/bin/false' >/etc/passwd
    # QEMU's own backends need xenstore: no disk of it, and with vkbd it would exit
    guest 'dm_restrict = 1' 'device_model_override = "/lab/device-model"' 'vkb_device = 0' "$@"
}
says_its_user() { say "the device model runs as user $(stat -c %u "/proc/$(model_pid)")"; }
EXAMPLE=/usr/share/doc/qemu-system-xen-fw-handoff/examples/guest.cfg

# begins: the lines of the config about what it begins with: our option ROM, or a BIOS alone
begins() {
    case $BIOS in
    '')
        echo 'kernel = "/guest/vmlinuz"'    # xenfv has no fw_cfg without one
        echo "device_model_args_hvm = [ \"-fw_cfg\", \"name=genroms/labfw.rom,file=/guest/labfw.rom\"$DM_ARGS ]"
        ;;
    *)
        echo "bios_path_override = \"$BIOS\""
        echo "device_model_args_hvm = [ ${DM_ARGS#, } ]"
        ;;
    esac
}

# create: the guest of the config, paused; a scenario of another toolstack has its own
create() {
    say "waiting for xl create ($((60 * PATIENCE)) s at most)"
    timeout $((60 * PATIENCE)) xl -vvv create -p "$OUT/guest.cfg" >"$OUT/xl-create.log" 2>&1 ||
        {
            grep -v debug: "$OUT/xl-create.log"
            cat "/var/log/xen/qemu-dm-$SCENARIO.log"
            fail "xl create"
        }
}

# guest LINE...: make the guest, paused: a kernel's disk (xvda), QEMU's disk (xvdb), more DISKS
# of the kernel with every fourth QEMU's unless all are to be of one KIND, or those of these
# NUMBERS, one of which may be SCSI (sda), a kernel's NIC or NICS of them, our firmware, and the
# device model under test.  LINEs go into its config; ALL are its devices.
guest() {
    disks='' vifs='' ALL=''
    for n in ${NUMBERS:-$(seq 0 $((DISKS - 1)))}; do
        disk "$n"
        access=w
        [ "$n" != "$READ_ONLY" ] || access=r
        vdev=d${n}p0
        [ "$n" != "$SCSI" ] || vdev=sda
        # many of QEMU's own keep it busy at its start until xl thinks that it hangs
        case ${KIND:-$((n % 4))} in
        kernel | [023])
            loop=$(losetup -f)
            losetup "$loop" "$image"
            LOOPS="$LOOPS $loop"
            disks="$disks \"phy:$loop,$vdev,$access\","
            ;;
        *) disks="$disks \"format=raw,vdev=$vdev,access=$access,backendtype=qdisk,target=$image\"," ;;
        esac
        if [ "$vdev" = sda ]; then
            ALL="$ALL vbd/2048"
        elif [ "$n" -lt 16 ]; then
            ALL="$ALL vbd/$((51712 + 16 * n))"
        else
            ALL="$ALL vbd/$(((1 << 28) + 256 * n))"
        fi
    done
    for n in $(seq 0 $((NICS - 1))); do
        vifs="$vifs \"mac=00:16:3e:11:11:1$((n + 1)),bridge=xenbr0,type=vif\","
        ALL="$ALL vif/$n"
    done
    ALL=${ALL# }
    # serial: from the first character on
    cat >"$OUT/guest.cfg" <<C
name = "$SCENARIO"
type = "hvm"
memory = 256
vcpus = 1
vga = "none"
nographic = 1
vnc = 0
usb = 0
xen_platform_pci = ${PLATFORM:-1}
serial = "file:$OUT/firmware.log"
$(begins)
$(model)
disk = [ $disks ]
vif = [ $vifs ]
on_poweroff = "preserve"
on_reboot = "preserve"
on_crash = "preserve"
on_soft_reset = "preserve"
C
    for line in "$@"; do
        echo "$line" >>"$OUT/guest.cfg"
    done
    create
    present
    [ -z "$GDB" ] || debug
}

# limit_kernel BPS: bytes a second that the kernel's one disk reads, 0 for no limit; everybody
# is in the root of cgroups
limit_kernel() {
    mkdir -p /run/blkio
    [ -e /run/blkio/blkio.throttle.read_bps_device ] || mount -t cgroup -o blkio blkio /run/blkio
    read -r dev <"/sys/block/${LOOPS##*/}/dev"
    echo "$dev $1" >/run/blkio/blkio.throttle.read_bps_device
}

# blkback has seen that the frontend is Closed
closed() {
    case $(xenstore-read "/local/domain/0/backend/vbd/$DOMID/51712/state") in
    6 | 2) ;;
    *) false ;;
    esac
}

# dead_backend NAME: a disk as the toolstack makes it, but that nobody is behind its backend:
# it is in InitWait from the start, so that dom0's blkback does not take it
dead_backend() {
    FRONTEND=/local/domain/$DOMID/device/$1 BACKEND=/local/domain/0/backend/vbd/$DOMID/${1#vbd/}
    xenstore-write "$BACKEND/frontend" "$FRONTEND" "$BACKEND/frontend-id" "$DOMID" \
        "$BACKEND/online" 1 "$BACKEND/state" 2
    xenstore-chmod -r "$BACKEND" n0 "r$DOMID"
    xenstore-write "$FRONTEND/backend" "$BACKEND" "$FRONTEND/backend-id" 0 \
        "$FRONTEND/virtual-device" "${1#vbd/}" "$FRONTEND/device-type" disk "$FRONTEND/state" 1
    xenstore-chmod -r "$FRONTEND" "n$DOMID" r0
}

# plays_dead: the dead backend connects when the firmware does, and that is all it ever does
frontend_is() { [ "$(xenstore-read "$FRONTEND/state")" = "$1" ]; }
plays_dead() {
    await 60 "the firmware at $BACKEND" frontend_is 3
    xenstore-write "$BACKEND/state" 4
}

# options KEY VALUE...: lab/KEY for the firmware, which waits for them; of a key that comes
# twice, the last value counts
options() {
    pairs=$#
    while [ "$pairs" -gt 0 ]; do
        set -- "$@" "/local/domain/$DOMID/lab/$1" "$2"
        shift 2
        pairs=$((pairs - 2))
    done
    xenstore-write "$@" "/local/domain/$DOMID/lab/complete" 1
    event started
}

start() { options "$@"; xl unpause "$SCENARIO"; }   # start KEY VALUE...: let the guest run

is_at() { [ "$(xenstore-read "/local/domain/$DOMID/data/lab-at" 2>/dev/null)" = "$1" ]; }
checkpoint() {  # checkpoint NAME SECONDS: the payload is there, and waits
    limit=$(($2 * PATIENCE))
    say "waiting for checkpoint '$1' ($limit s at most)"
    timeout $limit xsawait "/local/domain/$DOMID/data/lab-at" "$1" ||
        fail "no checkpoint '$1' within $limit s"
    event "checkpoint $1"
}
resume() { xenstore-write "/local/domain/$DOMID/lab/go" "$1"; event "resume $1"; }

# checkpoint_scratch POINT SECONDS: the firmware, which has to leave xenstore alone, is there
said_at() { grep -aqE "^(PVFW|INT13): at $1" "$OUT/firmware.log"; }
checkpoint_scratch() {
    await "$2" "the firmware at '$1'" said_at "$1"
    event "at $1"
}
resume_scratch() {  # resume_scratch POINT: QEMU lets it go on
    monitor 'o /b 0x3ff 1'
    event "resume $1"
}

through() { # through POINT...: what there is to see at each, LONG seconds later at most
    for point in "$@"; do
        checkpoint "$point" "$LONG"
        snapshot "$point"
        resume "$point"
    done
}

announced() {   # the OS has announced itself
    checkpoint 'announced' "$LONG"
    snapshot 'announced'
    [ -z "$DM_ARGS" ] || reported announced
}

used() {    # the OS has used its devices
    checkpoint 'done' "$LONG"
    snapshot 'done'
    written
}

take_over() { announced; resume 'announced'; used; }

# naive start|options KEY VALUE...: the firmware leaves all connected; an OS that announces
# itself but resets nothing
naive() {
    begin=$1
    shift
    "$begin" firmware "$ALL" os 1 late "$ALL" gates "firmware announced done" "$@"
    through firmware
    take_over
}

# late_announce start|options: an OS that attaches all, then announces itself, as OpenBSD does
late_announce() {
    "$1" firmware none os 1 order "$OPENBSD" early "$ALL" gates "early done"
    through early
    used
}

LINUX="console=hvc0 mitigations=off nokaslr random.trust_cpu=on audit=0 apparmor=0 cryptomgr.notests no_timer_check"

# linux_guest WORDS LINE...: a guest as above that boots Linux, with WORDS for it
linux_guest() {
    words=$1
    shift
    guest 'ramdisk = "/guest/initrd"' "$@" "cmdline = \"$LINUX $words\""
}

# connected KEY VALUE...: the firmware connects all and returns to the BIOS, which boots an OS
connected() {
    start firmware "$ALL" os 0 gates firmware "$@"
    through firmware
}

# first_line [COMMAND...]: what there is to see, and COMMAND, while Linux stands at its first line
first_line() {
    wait_console 'Linux version' 220
    event first-line
    xl pause "$SCENARIO"
    snapshot 'first-line'
    "$@"
    xl unpause "$SCENARIO"
    event unpaused
}

ready() {   # Linux is
    wait_console 'GUEST.*ready' 220
    event ready
    snapshot 'os'
}

# --- a driver domain -----------------------------------------------------------------

# its root is that of dom0
driver_initrd() (
    cd /
    {
        printf '%s\n' usr usr/lib usr/lib/xen usr/lib/xen-* guest proc sys dev run tmp
        find bin etc lib lib64 sbin usr/bin usr/lib/xen-*/bin guest/driver
        find var -type d -o -type l
    } | cpio -o -H newc >"/tmp/$SCENARIO-initrd" 2>/dev/null
)

driver_is_ready() { [ "$(xenstore-read "/local/domain/$DRIVER/data/driver" 2>/dev/null)" = ready ]; }

driver_ends() {
    timeout 60 xl destroy driver
    mv /run/guest-driver.log "$OUT/driver.log"
}

# driver_domain N...: one that has disks N and serves them as its own xvda and so on, and a NIC
driver_domain() {
    # shellcheck disable=SC2034  # finish() has it
    AFTER=driver_ends
    disks=''
    for n in "$@"; do
        disk "$n"
        loop=$(losetup -f)
        losetup "$loop" "$image"
        LOOPS="$LOOPS $loop"
        disks="$disks \"phy:$loop,d$((n - $1))p0,w\","
    done
    driver_initrd
    cat >"$OUT/driver.cfg" <<C
name = "driver"
type = "pv"
driver_domain = 1
memory = 256
vcpus = 1
kernel = "/guest/vmlinux.gz"
ramdisk = "/tmp/$SCENARIO-initrd"
cmdline = "console=hvc0 rdinit=/guest/driver mitigations=off nokaslr ipv6.disable=1 audit=0 apparmor=0 cryptomgr.notests sysrq_always_enabled"
disk = [ $disks ]
vif = [ "mac=00:16:3e:22:22:22,bridge=xenbr0,type=vif" ]
C
    say "waiting for xl create of the driver domain (120 s at most)"
    timeout 120 xl create "$OUT/driver.cfg" >"$OUT/xl-create-driver.log" 2>&1
    DRIVER=$(xl domid driver)
    echo "$DRIVER" >"$OUT/driver"
    await 120 "the driver domain" driver_is_ready
}

# --- a stub domain -------------------------------------------------------------------

# its root: QEMU and what it needs of dom0
stub_initrd() (
    cd /
    {
        printf '%s\n' usr usr/lib usr/lib/xen usr/lib/xen-* usr/share guest proc sys dev run tmp \
            guest/stub guest/vmlinuz guest/labfw.rom
        find bin lib lib64 sbin usr/bin usr/lib/xen-*/bin usr/share/qemu
    } | cpio -o -H newc 2>/dev/null
    cd /lab
    echo qemu-dm | cpio -o -H newc 2>/dev/null
) >"/tmp/$SCENARIO-initrd"

# --- a BIOS with PV disks of its own -------------------------------------------------

# bios: the one under test; disks from number 4 on (xvde) have no emulated twin
bios() {
    BIOS=/lab/bios-256k.bin
    [ -e $BIOS ] || fail "the BIOS under test is missing: make bios"
}
# shellcheck disable=SC2034  # for scenarios
STOCK=/usr/share/seabios/bios-256k.bin

# boots_nothing: the BIOS has found nothing to boot from
gives_up() { xl dmesg -c >>"$OUT/xen.log"; grep -q "(d$DOMID) No bootable device" "$OUT/xen.log"; }
boots_nothing() { await 90 "the BIOS to give up" gives_up; }

# boot_disk N: make disk N, with a file system for what is booted
boot_disk() {
    image=/tmp/$SCENARIO-disk$1.img
    gunzip -c /guest/boot.gz >"$image"
    marks "$1" | tail -c +513 | dd of="$image" bs=512 seek=1 conv=notrunc 2>/dev/null
    export MTOOLS_SKIP_CHECK=1 DEFAULT_CODEPAGE=367     # ASCII, which libc has built in
}

# linux_disk N LOADER WORDS: make disk N, from which a loader boots Linux with WORDS: SYSLINUX,
# GRUB, or the GRUB that OVMF boots
linux_disk() {
    boot_disk "$1"
    case $2 in
    grub) dd if=/guest/grub.mbr of="$image" conv=notrunc 2>/dev/null ;;
    efi) efi_loader /lab/ovmf/grub.efi ;;
    esac
    mcopy -i "$image@@1M" /guest/vmlinuz /guest/initrd ::
    syslinux_config "$3" | mcopy -i "$image@@1M" - ::syslinux.cfg
    mcopy -i "$image@@1M" - ::grub.cfg <<C
echo "the loader reads Linux"
linux /vmlinuz $LINUX $3
initrd /initrd
boot
C
}

# memtest_disk N: make disk N, from which SYSLINUX boots Memtest86+, for it a kernel like any other
memtest_disk() {
    boot_disk "$1"
    mcopy -i "$image@@1M" /guest/memtest ::
    mcopy -i "$image@@1M" - ::syslinux.cfg <<C
SERIAL 0 115200
DEFAULT memtest
LABEL memtest
KERNEL memtest
APPEND console=ttyS0,115200
C
}

syslinux_config() {     # WORDS
    cat <<C
SERIAL 0 115200
DEFAULT linux
LABEL linux
KERNEL vmlinuz
INITRD initrd
APPEND $LINUX $1
C
}

# linux_cd N WORDS: make disk N, a CD from which ISOLINUX boots Linux with WORDS
linux_cd() {
    image=/tmp/$SCENARIO-disk$1.img
    files=/tmp/$SCENARIO-files
    mkdir "$files"
    cp /guest/isolinux.bin /guest/ldlinux.c32 /guest/vmlinuz /guest/initrd "$files/"
    syslinux_config "$2" >"$files/isolinux.cfg"
    genisoimage -quiet -o "$image" -b isolinux.bin -no-emul-boot -boot-load-size 4 \
        -boot-info-table "$files"
    rm -r "$files"
    marks "$1" | dd of="$image" conv=notrunc 2>/dev/null    # where a CD is free
}

# loads [COMMAND...]: the loader reads Linux; what there is to see, and COMMAND, then
said_loads() { grep -aqE 'the loader reads Linux|^Loading vmlinuz' "$OUT/firmware.log"; }
loads() {
    event started
    xl unpause "$SCENARIO"
    await 220 "the loader" said_loads
    xl pause "$SCENARIO"
    snapshot 'firmware'
    "$@"
    xl unpause "$SCENARIO"
    event loads
}

# naive_disk N: make disk N, which is an OS that resets nothing
naive_disk() {
    disk "$1"
    dd if=/guest/san.img of="$image" count=1 conv=notrunc 2>/dev/null
    dd if=/guest/san.img of="$image" bs=512 skip=16 seek=16 conv=notrunc 2>/dev/null
}

# int13_disk N PLAN: make disk N, which tests INT 13h; int13.c has the letters of the plan
int13_disk() {
    image=/tmp/$SCENARIO-disk$1.img
    cp /guest/int13.img "$image"
    int13disk make "$image" "$1" "$2"
    TESTED="$TESTED $1"
}

said_done() { grep -aq '^INT13: done' "$OUT/firmware.log"; }

# int13_through POINT...: let the guest test, with what there is to see at each
int13_through() {
    event started
    xl unpause "$SCENARIO"
    for point in "$@"; do
        checkpoint_scratch "$point" 600
        snapshot "$point"
        [ "$point" != announced ] || [ -z "$DM_ARGS" ] || reported announced
        resume_scratch "$point"
    done
}

# int13 POINT...: the same to its end, and what it has written
int13() {
    int13_through "$@"
    await 60 "the test of INT 13h to end" said_done
    sync
    for n in $TESTED; do
        int13disk check "/tmp/$SCENARIO-disk$n.img" "$n"
    done | tee "$OUT/int13.txt"
}

# --- OVMF ----------------------------------------------------------------------------

# ovmf LINE...: make a guest that begins with OVMF, which has drivers of PV disks.  timer_mode: at
# each tick it polls the serial port, and would not get on if Xen made up for the missed ones.
ovmf() {
    BIOS=/lab/ovmf/OVMF.fd
    guest 'bios = "ovmf"' 'memory = 512' 'timer_mode = "no_missed_ticks_pending"' "$@"
}

# efi_loader FILE: put it where OVMF looks on the disk in $image
efi_loader() {
    files=/tmp/$SCENARIO-files
    mkdir -p "$files/EFI/BOOT"
    cp "$1" "$files/EFI/BOOT/BOOTX64.EFI"
    mcopy -s -i "$image@@1M" "$files/EFI" ::
    rm -r "$files"
}

# --- iPXE ----------------------------------------------------------------------------

# ipxe LINE...: make a guest that begins with Debian's iPXE, which boots from the network with its PV
# netfront, or does what cmdline says.  timer_mode: Xen would make up for the missed ticks of the
# RTC, whose 1024 Hz iPXE takes for entropy, faster than they can be taken here.
ipxe() {
    BIOS=${BIOS:-$STOCK}
    guest 'kernel = "/guest/ipxe.lkrn"' 'timer_mode = "no_missed_ticks_pending"' "$@"
}

# serve COMMAND...: a server of dom0's, until the scenario ends
serve() {
    command -v "$1" >/dev/null || fail "this lab has no $1: tests/xen/setup.sh others"
    "$@" >"$OUT/${1##*/}.log" 2>&1 &
    AFTER="${AFTER:-kill} $!"
}

# san N: disk N of a SAN, for AoE, with our firmware in the place of a boot loader
san() {
    cp /guest/san.img "/tmp/$SCENARIO-san$1.img"
    truncate -s 16M "/tmp/$SCENARIO-san$1.img"  # less has not even one cylinder
    serve vblade 0 "$1" xenbr0 "/tmp/$SCENARIO-san$1.img"
}
SANBOOT='ifopen net0 && sanboot --drive 0x80 aoe:e0'     # .N

# at_hand: the line of the config with what our firmware LOADS, with an initrd
at_hand() {
    echo 'device_model_args_hvm += [ "-fw_cfg", "name=opt/labfw/initrd,file=/guest/initrd",' \
        "\"-fw_cfg\", \"name=opt/labfw/kernel,file=$LOADS\" ]"
}

# ipxe_guest LINE...: iPXE boots our firmware from a SAN, and never closes its NIC
ipxe_guest() {
    san 0
    ipxe "cmdline = \"$SANBOOT.0\"" "$(at_hand)" "$@"
}

# network FILE: dom0 tells by DHCP what to boot from the network, and serves the guests' files by HTTP
network() {
    cat >"/tmp/$SCENARIO-udhcpd" <<C
interface xenbr0
start 192.0.2.9
end 192.0.2.9
option subnet 255.255.255.0
siaddr 192.0.2.1
boot_file $1
lease_file /tmp/$SCENARIO-leases
pidfile /run/udhcpd.pid
C
    touch "/tmp/$SCENARIO-leases"
    serve udhcpd -f "/tmp/$SCENARIO-udhcpd"
    serve httpd -f -p 192.0.2.1:80 -h /guest
}

# look: a page for a script of iPXE's, which comes when dom0 has looked at the firmware
look() {
    mkdir -p /guest/cgi-bin
    cat >/guest/cgi-bin/look <<C
#!/bin/sh
xenstore-write /local/domain/$DOMID/data/lab-at firmware
xsawait /local/domain/$DOMID/lab/go firmware
printf 'Content-type: text/plain\r\n\r\n#!ipxe\n'
C
    chmod +x /guest/cgi-bin/look
}

# a NIC with its emulated twin; no option ROM for that, there is none here
# shellcheck disable=SC2034  # for scenarios
{
EMULATED_NIC='vif = [ "mac=00:16:3e:11:11:11,bridge=xenbr0,model=rtl8139" ]'
NO_NIC_ROM='device_model_args_hvm += [ "-global", "rtl8139.romfile=" ]'
EMULATION="MODULES=ata_piix,sd_mod,8139cp"      # what Linux needs for emulated devices
}

emulated() {    # emulated TAG: what there is of them, as QEMU has it
    query "$1" pci '{"execute":"query-pci"}'
    query "$1" block '{"execute":"query-block"}'
}

console_has() { grep -aq "$1" "$CONSOLE" 2>/dev/null; }
wait_console() { await "$2" "'$1' on the console" console_has "$1"; }  # wait_console REGEX SECONDS

count_alive() { grep -ac 'GUEST.*: alive' "$CONSOLE"; }
alive_times() { [ "$(count_alive)" -ge "$1" ]; }
# alive: until Linux has used all its devices; it may have begun the first time before now
alive() { await 90 "Linux to use its devices" alive_times $(($(count_alive) + 2)); event alive; }

# --- looking -------------------------------------------------------------------------

dump_done() { xl dmesg -c >>"$1"; grep -q 'gnttab_usage_print_all \] done' "$1"; }

dump() {    # dump FILE: Xen's event channels and grants
    xl dmesg -c >>"$OUT/xen.log"
    xl debug-keys eg
    await 20 "Xen's dump for ${1##*/}" dump_done "$1"
}

# connection: the guest's to xenstore, as its ring and xenstored have it
connection() {
    xsring "$DOMID"
    case $XENSTORED in
    oxenstored)
        echo "watches $(xenstore-control watches | grep -c "^watch D$DOMID:")"
        xenstore-control xenbus "$DOMID"
        ;;
    *) xenstore-control quota "$DOMID" ;;
    esac
}

snapshot() {    # snapshot TAG: xenstore, event channels and grants as they are now
    event "snapshot $1"
    xenstore-ls -fp /local/domain >"$OUT/snapshot-$1-xenstore.txt"
    dump "$OUT/snapshot-$1-xen.txt"
    grants "$DOMID" >"$OUT/snapshot-$1-grants.txt"
    connection >"$OUT/snapshot-$1-connection.txt"
}

# busybox has no pgrep here
model_pid() { ps | awk -v id="$DOMID" '$0 ~ "[x]en-domid " id " " { print $1; exit }'; }
model_runs() { [ -n "$(model_pid)" ]; }
model_gone() { ! model_runs; }

# traces TAG: what dom0 and Xen have of the guest, into traces-TAG.txt and .xen
traces() {
    dump "$OUT/traces-$1.xen"
    {
        xl list | awk -v id="$DOMID" '$2 == id { print "domain", $1 }'
        xenstore-ls -f / | awk -v id="$DOMID" '{
            n = split($1, part, "/")
            for (i = 1; i <= n; i++)
                if (part[i] == id) { print "xenstore", $1; break }
        }'
        model_runs && echo "process qemu-dm"
        for path in "/sys/bus/xen-backend/devices/"*"-$DOMID-"* "/sys/class/net/vif$DOMID."*; do
            [ ! -e "$path" ] || echo "kernel $path"
        done
    } >"$OUT/traces-$1.txt"
}

# query TAG NAME COMMAND: what QEMU replies to a QMP command, as NAME into qmp-TAG.txt
query() {
    printf '%s ' "$2" >>"$OUT/qmp-$1.txt"
    qmp "/run/xen/qmp-libxl-$DOMID" "$3" >>"$OUT/qmp-$1.txt"
}

DEBIANS_QEMU=/usr/libexec/xen-qemu-system-i386
for_all_guests() { # of the host: the package's device model, as xen-fw-handoff(7) says
    echo "Debian's" >$DEBIANS_QEMU
    dpkg-divert --local --rename --add $DEBIANS_QEMU
    ln -s xen-fw-handoff/device-model $DEBIANS_QEMU
}

# as_administrator: the device's state by the line of the spec, README.md and xen-fw-handoff(7)
as_administrator() {
    xl qemu-monitor-command "$SCENARIO" "info xen-fw-handoff" |
        sed -n 's/^State: */state /p' | cut -d ' ' -f -2 >>"$OUT/package.txt"
}

monitor() { # monitor COMMAND [QMP'S OPTION...]: QEMU's human monitor, without the prompt
    command=$1
    shift
    qmp "$@" "/run/xen/qmp-libxl-$DOMID" '{"execute":"human-monitor-command","arguments":{
        "command-line":"'"$command"'"}}'
}

reported() {    # reported TAG: what the device under test reports, into qmp-TAG.txt
    query "$1" xen-fw-handoff '{"execute":"query-xen-fw-handoff"}'
}

written() { # what arrived in the disks' images where the OS wrote
    sync
    for image in "/tmp/$SCENARIO"-disk*.img; do
        number=${image%.img} number=${number##*disk} sector=7
        [ "$number" != "$QCOW2" ] || sector=$((sector + $(stat -c %s /guest/qcow2) / 512))
        say "disk $number: sector 7 says '$(dd if="$image" bs=512 skip=$sector count=1 \
            2>/dev/null | tr -d '\n' | sed 's/ *$//')'"
    done | tee "$OUT/written.log"
}

# --- another life --------------------------------------------------------------------

# archive_evidence: what was seen so far is of a device model that ends; it goes to before/
archive_evidence() {
    mkdir "$OUT/before"
    mv "$OUT"/snapshot-* "$OUT/domid" "$OUT/events.log" "$OUT/before/"
    cp "$OUT/firmware.log" "$OUT/xswatch.log" "$OUT/before/"
    cp "/var/log/xen/qemu-dm-$SCENARIO.log" "$OUT/before/qemu-dm.log"
}

# save: the guest goes to a file, and its device model ends
save() {
    say "waiting for xl save ($((60 * PATIENCE)) s at most)"
    timeout $((60 * PATIENCE)) xl save "$SCENARIO" "/tmp/$SCENARIO-saved"
    event saved
    archive_evidence
}

# migrate: the guest goes to the host that it is on; without ssh the "host" is a command
migrate() {
    event saved
    archive_evidence    # the next device model begins the firmware's log anew
    say "waiting for xl migrate ($((90 * PATIENCE)) s at most)"
    timeout $((90 * PATIENCE)) xl migrate -s '' "$SCENARIO" 'xl migrate-receive' \
        >"$OUT/xl-migrate.log" 2>&1 || fail "xl migrate"
    cp "/var/log/xen/qemu-dm-$SCENARIO.log" "$OUT/before/qemu-dm.log"
    # both were there at the same time, under two names
    mv "/var/log/xen/qemu-dm-$SCENARIO--incoming.log" "/var/log/xen/qemu-dm-$SCENARIO.log"
    mv "$CONSOLE" "$OUT/before/console.log"
    ln "/run/guest-$SCENARIO--incoming.log" "$CONSOLE"
    present
}

# restore [-p]: it comes back, and stands still with -p
restore() {
    say "waiting for xl restore ($((60 * PATIENCE)) s at most)"
    timeout $((60 * PATIENCE)) xl restore "$@" "/tmp/$SCENARIO-saved" >"$OUT/xl-restore.log" 2>&1
    present
}

restarted() { DOMID=$(xl domid "$SCENARIO" 2>/dev/null) && is_at 'begin'; }

# reboot_into REASON KEY VALUE...: the firmware leaves all connected and the OS, when it uses the
# NIC, shuts down for REASON; xl's answer is another life of the guest, which waits for its options
reboot_into() {
    reason=$1
    shift
    start firmware "$ALL" os 1 late vif/0 gates 'done' shutdown "$reason" "$@"
    checkpoint 'done' 60
    archive_evidence
    xenstore-write "/local/domain/$DOMID/lab/go" 'done'
    await 60 "the guest's next life" restarted
    present
}

# --- a scenario from begin to end ----------------------------------------------------

gone() { ! xl domid "$SCENARIO" >/dev/null 2>&1; }

destroy() { # the guest, and what was made for it
    if ! gone; then
        say "waiting for xl destroy ($((60 * PATIENCE)) s at most)"
        timeout $((60 * PATIENCE)) xl destroy "$SCENARIO" 2>&1 | grep -v '^$' || :
        await 30 "the domain's end" gone
    fi
    for loop in $LOOPS; do
        losetup -d "$loop" || :
    done
    LOOPS=''
}

# select_guest [OTHER]: from here on it is about the scenario's guest, or about another one of its own
select_guest() {
    SCENARIO=$NAME${1:+-$1} OUT=/out/$NAME${1:+/$1}
    CONSOLE=/run/guest-$SCENARIO.log
    mkdir -p "$OUT"
    DOMID=$(xl domid "$SCENARIO" 2>/dev/null) || :
}

collect_logs() {    # the guest ends, its logs stay
    (destroy) || status=1
    cp "/var/log/xen/qemu-dm-$SCENARIO.log" "$OUT/qemu-dm.log"
    cp "/var/log/xen/xl-$SCENARIO.log" "$OUT/xl.log"
    for log in "/var/log/xen/"*"-$SCENARIO-dm.log"; do
        [ ! -e "$log" ] || cp "$log" "$OUT/"    # what dom0 runs for a stub domain
    done
    mv "$CONSOLE" "$OUT/console.log" 2>/dev/null
    [ "$status" = 0 ] || tail -n 5 "$OUT/console.log" | tr -d '\r' |
        while read -r line; do say "FAIL: its last words: $line"; done
    rm -f "/tmp/$SCENARIO"-*
}

finish() {  # also after a failure
    status=$?
    trap - EXIT
    set +e
    for other in "/out/$NAME"/other*; do
        [ -d "$other" ] || continue
        select_guest "${other##*/}"
        collect_logs
    done
    select_guest
    collect_logs
    $AFTER
    xl dmesg -c >>"$OUT/xen.log"
    kill "$WATCH" "$LIVE"
    echo "$status" >"$OUT/status"
    say "ends with status $status"
    exit "$status"
}

# scenario NAME[.VARIANT]: run /lab/scenarios/NAME.sh
# shellcheck disable=SC2034  # VARIANT is for that
scenario() {
    NAME=$1 VARIANT=${1#*.} LOOPS='' DISKS=2 NUMBERS='' SCSI='' READ_ONLY='' NICS=1 KIND='' QCOW2=''
    BIOS='' TESTED='' AFTER='' LOADS=/guest/vmlinuz LONG=120
    select_guest
    say "begins"
    event begin
    # the logs on their way to the host, should this be the last we hear of dom0
    touch "$OUT/firmware.log" "$OUT/xswatch.log" "$CONSOLE" "/var/log/xen/qemu-dm-$1.log"
    tail -F -n +1 "$OUT/firmware.log" "$CONSOLE" "/var/log/xen/qemu-dm-$1.log" \
        "$OUT/xswatch.log" >/dev/vport0p1 2>/dev/null &
    LIVE=$!
    xswatch /local/domain >"$OUT/xswatch.log" &
    WATCH=$!
    trap finish EXIT
    set -e
    # shellcheck source=/dev/null
    . "/lab/scenarios/${1%%.*}.sh"
}
