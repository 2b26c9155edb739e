#!/bin/busybox sh
# by-hand.sh DOMID FRONTEND...: close what labfw has connected as an administrator could in
# dom0, one device after the other, with the tools that Xen has for that.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

set -e
domid=$1
shift
events=$(mktemp -u)
mkfifo "$events"
for device in "$@"; do
    fe=/local/domain/$domid/device/$device
    be=$(xenstore-read "/libxl/$domid/device/$device/backend")
    xenstore-watch "$be/state" >"$events" &
    watch=$!
    exec 3<"$events"
    for step in 5 6 1; do
        if [ $step = 1 ]; then
            for key in ring-ref event-channel protocol feature-persistent tx-ring-ref \
                rx-ring-ref request-rx-copy feature-no-csum-offload; do
                xenstore-rm "$fe/$key" 2>/dev/null || :
            done
        fi
        xenstore-write "$fe/state" $step
        while read -r _ <&3; do
            case $step$(xenstore-read "$be/state") in
            55 | 56 | 66 | 12) break ;;
            esac
        done
    done
    kill $watch
    exec 3<&-
done
rm "$events"
