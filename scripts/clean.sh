#!/bin/sh
# Empty build/.  The cache is only named: it took minutes to fill.
#
# SPDX-License-Identifier: GPL-2.0-or-later

# shellcheck source=scripts/common.sh
. "$(dirname "$0")/common.sh"

rm -rf "$TOP"/build/*
[ ! -d "$CACHE" ] || say "build/ is empty; the cache ($(du -sh "$CACHE" | cut -f 1)) stays in $CACHE"
