"""Finding faces: one protocol, three finders, and the head's pose."""

from gateway.faces.face import Face, FaceFinder, Pose, best_first
from gateway.faces.finder import FinderUnavailable, make_finder

__all__ = ["Face", "FaceFinder", "FinderUnavailable", "Pose", "best_first", "make_finder"]
