"""Errors about checkpoints.

CheckpointError
├── Unreadable        empty, cut short, a web page, or not a torch file
│   └── UnsafePickle  a pickle that contains code; none of it was run
├── NotAGenerator     the weights of another network, such as a discriminator
├── ShapeMismatch     a GPEN generator with missing, extra or differently shaped tensors
├── BadWeights        the right tensors with invalid values
└── Altered           not the published file, or not the file that was recorded on first use
"""


class CheckpointError(Exception):
    """Base of all errors about checkpoints. `str(error)` states in one line what is wrong and what to do."""


class Unreadable(CheckpointError):
    """The file is empty, cut short, or not a torch checkpoint."""


class UnsafePickle(Unreadable):
    """The file contains code besides weights. None of it was run."""


class NotAGenerator(CheckpointError):
    """The weights belong to another network than GPEN's generator."""


class ShapeMismatch(CheckpointError):
    """A GPEN generator with tensors that are missing, extra, or of inconsistent shapes."""


class BadWeights(CheckpointError):
    """Tensors that are not float32, not finite, or incomplete."""


class Altered(CheckpointError):
    """The file is not the published one, or not the one that was recorded on first use."""
