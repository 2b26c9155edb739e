# The firmware leaves all connected; an OS that announces itself but resets nothing.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start
