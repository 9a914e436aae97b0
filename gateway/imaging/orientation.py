"""Apply the EXIF orientation of a photo."""

from PIL import ExifTags, Image

# The transpose operation for each EXIF orientation. Source: CIPA DC-008 (Exif 3.0), tag 274.
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_upright(image: Image.Image, warnings: list[str]) -> Image.Image:
    """Return `image` upright. An unreadable EXIF block adds to `warnings` and leaves the image as it is."""
    # Pillow's exif_transpose also rewrites the EXIF block, and fails on any malformed tag in it.
    try:
        transpose = _TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:
        # Software writes EXIF in many broken ways, so Pillow may raise anything here.
        warnings.append(f"exif: the orientation cannot be read and was ignored ({error})")
        return image
    return image if transpose is None else image.transpose(transpose)
