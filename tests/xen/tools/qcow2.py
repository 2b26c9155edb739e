#!/usr/bin/env python3
# qcow2.py SIZE: write the metadata of a qcow2 image whose clusters are all there already, in
# the order of the disk: its data is what follows, byte for byte.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
import sys

BITS = 16
CLUSTER = 1 << BITS
COPIED = 1 << 63    # has one reference only
HEADER, REFCOUNT_TABLE, REFCOUNT_BLOCK, L1, L2, DATA = range(6)    # clusters

size = int(sys.argv[1])
clusters = size // CLUSTER
header = struct.pack('>4sIQIIQIIQQIIQQQQII', b'QFI\xfb', 3, 0, 0, BITS, size,
                     0, 1, L1 * CLUSTER, REFCOUNT_TABLE * CLUSTER, 1, 0, 0,
                     0, 0, 0, 4, 104)
for part in (header,
             struct.pack('>Q', REFCOUNT_BLOCK * CLUSTER),
             struct.pack('>H', 1) * (DATA + clusters),
             struct.pack('>Q', L2 * CLUSTER | COPIED),
             b''.join(struct.pack('>Q', (DATA + n) * CLUSTER | COPIED)
                      for n in range(clusters))):
    sys.stdout.buffer.write(part.ljust(CLUSTER, b'\0'))
