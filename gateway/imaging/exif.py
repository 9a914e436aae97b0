"""Clean an EXIF block before it is written to another file."""

from PIL import ExifTags, Image


def clean_exif(block: bytes | None, keep_gps: bool, max_bytes: int | None) -> bytes | None:
    """Remove the orientation, the thumbnail and, unless `keep_gps`, the location from an EXIF `block`.

    A block over `max_bytes` also loses its maker notes. Returns None if the block is unreadable or still too
    long.
    """
    if not block:
        return None
    exif = Image.Exif()
    try:
        exif.load(block)
        exif.pop(ExifTags.Base.Orientation, None)
        if not keep_gps:
            exif.pop(ExifTags.IFD.GPSInfo, None)
        # tobytes() writes the first directory and its children only; the thumbnail has a directory beside it.
        written = exif.tobytes()
        if max_bytes is not None and len(written) > max_bytes:
            # Maker notes are the usual cause, and only the maker's own software reads them.
            exif.get_ifd(ExifTags.IFD.Exif).pop(ExifTags.Base.MakerNote, None)
            written = exif.tobytes()
    except Exception:
        # Software writes EXIF in many broken ways: an unreadable block must not fail the photo.
        return None
    return written if max_bytes is None or len(written) <= max_bytes else None
