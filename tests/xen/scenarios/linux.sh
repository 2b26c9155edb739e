# The firmware leaves all connected; Linux boots and, if there is need, heals itself.  A variant
# is another release whose Linux it is.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

packets() { cat "/sys/class/net/vif$DOMID.0/statistics/tx_packets"; }

# Whatever dom0 broadcasts now lands in the firmware's receive buffers, i.e. in memory that
# Linux believes is its own, while they are still granted.
broadcast() {
    before=$(packets)
    senders=
    for _ in 1 2 3 4 5; do
        arping -q -c 1 -w 1 -I xenbr0 192.0.2.99 &
        senders="$senders $!"
    done
    # shellcheck disable=SC2086  # all of them
    wait $senders || :
    say "packets put into the firmware's buffers: $(($(packets) - before))"
}

case $VARIANT in
linux) linux_guest '' ;;
*)
    cat /guest/initrd "/lab/kernels/$VARIANT/modules.cpio" >"/tmp/$SCENARIO-initrd"
    linux_guest '' "kernel = \"/lab/kernels/$VARIANT/vmlinuz\"" "ramdisk = \"/tmp/$SCENARIO-initrd\""
    ;;
esac
connected
first_line broadcast
ready
