"""Pictures as files: decoding, encoding, colour, metadata, file names."""
