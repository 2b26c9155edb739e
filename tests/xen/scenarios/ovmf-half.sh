# OVMF is stopped half-way through its own teardown.  The domain that has the backends of four disks
# stands still, and dom0 answers in its place until OVMF gives up three of them, in another state
# with each.  It waits for the fourth's while we look: a quick machine's Linux would come before us.
# Nobody may write to them: OVMF would wait for a flush before it begins.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

frontend_is_in() { [ "$(xenstore-read "/local/domain/$DOMID/device/vbd/$1/state")" = "$2" ]; }
backend_is_in() { [ "$(xenstore-read "/local/domain/$DRIVER/backend/vbd/$DOMID/$1/state")" = "$2" ]; }
answer() { xenstore-write "/local/domain/$DRIVER/backend/vbd/$DOMID/$1/state" "$2"; }
# its keys are the last that it removes
given_up() { ! xenstore-read "/local/domain/$DOMID/device/vbd/$1/protocol" 2>/dev/null; }

# gives_it_up VBD ANSWER...: OVMF does, when it is told this of the backend in Closing and Closed
gives_it_up() {
    vbd=$1 state=5
    shift
    for answer in "$@"; do
        await 220 "vbd/$vbd in state $state" frontend_is_in "$vbd" $state
        answer "$vbd" "$answer"
        state=$((state + 1))
    done
    await 60 "OVMF to give up vbd/$vbd" given_up "$vbd"
    answer "$vbd" 4     # as it is
}

linux_disk 4 efi "DISKS=xvde,xvdf,xvdg,xvdh,xvdi"
driver_domain 5 6 7 8
# shellcheck disable=SC2034  # guest() reads it
NUMBERS=4
ovmf 'disk += [ "vdev=xvdf,access=ro,backend=driver,backendtype=phy,target=/dev/xvda",
    "vdev=xvdg,access=ro,backend=driver,backendtype=phy,target=/dev/xvdb",
    "vdev=xvdh,access=ro,backend=driver,backendtype=phy,target=/dev/xvdc",
    "vdev=xvdi,access=ro,backend=driver,backendtype=phy,target=/dev/xvdd" ]'
loads xl pause driver
gives_it_up 51792 6 &
closing=$!
gives_it_up 51808 5 7 &
closed=$!
gives_it_up 51824 5 6 &
wait $closing
wait $closed
wait $!
await 60 "vbd/51840 in state 5" frontend_is_in 51840 5
xl pause "$SCENARIO"
xl unpause driver
await 60 "the backend of vbd/51792 to be Closing" backend_is_in 51792 5
await 60 "the backend of vbd/51808 to be Closed" backend_is_in 51808 6
await 60 "the backend of vbd/51840 to be Closing" backend_is_in 51840 5
snapshot halved
xl unpause "$SCENARIO"
first_line
ready
