#!/bin/sh
# install.sh PACKAGE...: what a target of the Makefile needs beside the build.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"
mkdir -p "$CACHE/log"
apt_setup
apt_install "$@"
