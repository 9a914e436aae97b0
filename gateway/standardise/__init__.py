"""Standardise a photo: find, frame and light its face as GPEN expects."""

from gateway.standardise.portrait import Portrait, standardise

__all__ = ["Portrait", "standardise"]
