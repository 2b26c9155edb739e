# The firmware's grant references begin right behind the toolstack's, at 2, as a BIOS had them;
# the OS's begin at 8, as Linux's do.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start gref 2 os-gref 8
