"""What can be wrong with a checkpoint.

CheckpointError
├── Unreadable        empty, cut short, a web page, or otherwise no torch file
│   └── UnsafePickle  a pickle with more than weights in it; nothing of it was run
├── NotAGenerator     the weights of another network, a discriminator for instance
├── ShapeMismatch     a GPEN generator with tensors missing, extra, or of other shapes
├── BadWeights        the right tensors with the wrong numbers in them
└── Altered           another file than the published one, or than the one that was used before
"""


class CheckpointError(Exception):
    """Base of all. `str(error)` says in one line what was found and what to do about it."""


class Unreadable(CheckpointError):
    """The file is empty, cut short, or no torch checkpoint."""


class UnsafePickle(Unreadable):
    """The file asks for code to be run. None was."""


class NotAGenerator(CheckpointError):
    """The weights belong to another network than GPEN's generator."""


class ShapeMismatch(CheckpointError):
    """A GPEN generator, but with tensors missing, extra, or of shapes that do not fit each other."""


class BadWeights(CheckpointError):
    """Tensors that are not float32, not finite, or not whole."""


class Altered(CheckpointError):
    """The file is not the published one, or not the one that was used before."""
