#!/usr/bin/env python3
# vmlinux.py BZIMAGE: write the uncompressed kernel inside an xz-compressed bzImage.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import lzma
import struct
import sys

with open(sys.argv[1], 'rb') as f:
    image = f.read()
setup_sectors = image[0x1f1]
payload = (setup_sectors + 1) * 512 + struct.unpack_from('<I', image, 0x248)[0]
sys.stdout.buffer.write(lzma.LZMADecompressor().decompress(image[payload:]))
