"""Face detection: one protocol, three finders, and head pose."""

from gateway.faces.face import Face, FaceFinder, Pose, sort_best_first
from gateway.faces.finder import FinderUnavailable, make_finder

__all__ = ["Face", "FaceFinder", "FinderUnavailable", "Pose", "make_finder", "sort_best_first"]
