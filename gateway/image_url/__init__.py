"""Download the image behind `image_url`, with a guard against private addresses (SSRF)."""
