"""Count the scans of a JPEG from its markers (ITU-T T.81, annex B)."""

import re

# A marker is 0xFF and a byte. 0x00 stands for a data byte 0xFF, 0xD0 to 0xD7 are restarts within a scan, and
# 0xFF is padding.
_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_WITHOUT_LENGTH = (0x01, 0xD8)


def count_scans(jpeg: bytes) -> int:
    """Return how many times decoding passes over all pixels.

    Progressive files have about ten scans. A scan that changes nothing has a hundred bytes but takes as long
    to decode as any other.
    """
    scans, position = 0, 0
    while marker := _MARKER.search(jpeg, position):
        kind, position = marker[1][0], marker.end()
        if kind == _END_OF_IMAGE:
            break
        scans += kind == _START_OF_SCAN
        if kind not in _WITHOUT_LENGTH:
            position += int.from_bytes(jpeg[position : position + 2], "big")
    return scans
