"""Adjustments of the whole picture: denoise, sharpen, brightness, contrast."""
