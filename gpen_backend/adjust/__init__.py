"""Adjustments of the whole picture: denoise, detail, sharpen, brightness, contrast."""
