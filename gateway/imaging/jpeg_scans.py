"""How much work a JPEG is, from its markers (ITU-T T.81, annex B)."""

import re

# What follows 0xFF in a marker: 0x00 is a byte of data, 0xD0 to 0xD7 restart within a scan, 0xFF fills.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = (0x01, 0xD8)


def count_scans(jpeg: bytes) -> int:
    """How many times decoding passes over all pixels.

    Progressive files have about ten scans. A scan that changes nothing takes a hundred bytes, and its
    decoder as long as any other.
    """
    scans, place = 0, 0
    while marker := _MARKER.search(jpeg, place):
        kind, place = marker[1][0], marker.end()
        if kind == _END_OF_IMAGE:
            break
        scans += kind == _START_OF_SCAN
        if kind not in _WITHOUT_LENGTH:
            place += int.from_bytes(jpeg[place : place + 2], "big")
    return scans
