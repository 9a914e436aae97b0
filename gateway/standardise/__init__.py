"""Standardising: one photo in, the portrait that GPEN should see and the report of how it came about out."""

from gateway.standardise.portrait import Portrait, standardise

__all__ = ["Portrait", "standardise"]
