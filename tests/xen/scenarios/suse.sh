# SUSE's Linux before the protocol: one write to the platform device's own BAR.
#
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=dash

guest
naive start order "bar4=1 late"
