# checksum.py SECTORS: pad an option ROM and make its bytes add up to 0.
#
# SPDX-License-Identifier: GPL-2.0-or-later

import sys

size = int(sys.argv[1]) * 512
rom = bytearray(sys.stdin.buffer.read())
if len(rom) >= size:
    sys.exit(f'the ROM has {len(rom)} bytes, {size - 1} is the limit')
rom += bytes(size - len(rom))
rom[-1] = -sum(rom) & 255
sys.stdout.buffer.write(rom)
