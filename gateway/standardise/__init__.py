"""Standardise a photo: find the face, frame it and correct its light, as GPEN expects."""

from gateway.standardise.portrait import Portrait, standardise

__all__ = ["Portrait", "standardise"]
