# The firmware stops in the middle of its own teardown, at each device in another place: as it
# was, but Initialising; Closing; Closed and its keys removed; at rest, but for its keys; in a
# state that no frontend leaves behind.  Rings of four pages, so that an old key tells blkback
# lies about the OS's.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# shellcheck disable=SC2034  # guest() reads them
DISKS=8 NICS=2
guest
start firmware "$ALL" ring-order 2 os 1 late "$ALL" gates "firmware halved announced done" \
    half "vbd/51712=6d1i vbd/51728=1 vbd/51744=1 vbd/51760=5c6dkp vbd/51776=5c vbd/51792=6d1i \
vbd/51808=3 vbd/51824=2c vif/0=1i vif/1=6d1i"
through firmware halved
take_over
