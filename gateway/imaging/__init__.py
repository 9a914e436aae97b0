"""Image files: decoding, encoding, colour, orientation, EXIF and file names."""
