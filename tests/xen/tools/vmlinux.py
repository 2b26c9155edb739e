#!/usr/bin/env python3
# vmlinux.py BZIMAGE: write the uncompressed kernel inside a bzImage.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import struct
import subprocess
import sys

TOOLS = {b'\xfd7zX': 'xz', b'\x28\xb5\x2f\xfd': 'zstd'}

with open(sys.argv[1], 'rb') as f:
    image = f.read()
setup_sectors = image[0x1f1]
offset, length = struct.unpack_from('<II', image, 0x248)
payload = image[(setup_sectors + 1) * 512 + offset:][:length]
# the last 4 bytes are its size
subprocess.run([TOOLS[payload[:4]], '-dc'], input=payload[:-4], check=True)
