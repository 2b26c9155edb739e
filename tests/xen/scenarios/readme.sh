# The administrator's lines as README.md has them, and no others for the device.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

# the firmware comes in by another list; a disk of QEMU's own is in no time limit
guest 'device_model_args += [ "-fw_cfg", "name=genroms/labfw.rom,file=/guest/labfw.rom" ]' \
    'device_model_args_hvm = [ "-device", "xen-fw-handoff" ]'
start firmware vbd/51728 os 1 late "$ALL" gates "firmware announced done"
through firmware announced 'done'
written
