"""Loads a generator from a checkpoint. Runs no code from it; derives the architecture from keys and shapes.

Published checkpoints are a plain state dict; self-trained ones keep it under `g_ema`. Source: GPEN's
train_simple.py and face_model/face_gan.py.
"""

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpen_backend.network.generator import Generator
from gpen_backend.weights.errors import (
    BadWeights,
    CheckpointError,
    NotAGenerator,
    ShapeMismatch,
    Unreadable,
    UnsafePickle,
)

# First bytes of torch.save's two formats: a zip archive, and before torch 1.6 a pickle of protocol 2.
_TORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02")

# One tensor name that only this network has; the first match wins. Sources: the public code of each network.
_OTHER_NETWORKS = {
    "final_conv.0.weight": "a StyleGAN2 discriminator, such as GPEN's -D files",
    "stylegan_decoder.style_mlp.1.weight": "GFPGAN",
    "quantize.embedding.weight": "CodeFormer or RestoreFormer",
    "ClassHead.0.conv1x1.weight": "RetinaFace, a face detector",
    "cp.resnet.conv1.weight": "BiSeNet, a face parser",
    "body.0.rdb1.conv1.weight": "Real-ESRGAN",
    "to_rgb1.conv.weight": "a bare StyleGAN2 generator, without GPEN's encoder",
    "generator.to_rgb1.conv.weight": "half of GPEN: its decoder without the encoder",
}

_GET_ONE = "use a GPEN generator such as GPEN-BFR-512.pth"


def load_generator(path: Path) -> Generator:
    """Load the generator in a checkpoint file, on the CPU, in eval mode. Runs no code from the file.

    Raises a CheckpointError that names the file.
    """
    try:
        if path.stem.endswith("-D"):
            raise NotAGenerator(f"-D files hold GPEN's discriminator, which only training needs; {_GET_ONE}")
        return generator_from_state_dict(_unwrap(_read(path)))
    except CheckpointError as error:
        raise type(error)(f"{path}: {error}") from error


def generator_from_state_dict(state: Mapping[str, Tensor]) -> Generator:
    """Build a GPEN generator with a copy of these weights, on the CPU, in eval mode.

    state: float32 tensors by GPEN's names. Their shapes determine size, widths and depth.
    Raises NotAGenerator, ShapeMismatch or BadWeights.
    """
    _require_generator(state)
    for key, tensor in state.items():
        _require_sound(key, tensor)
    try:
        with torch.device("meta"):
            generator = Generator(**_architecture(state))
    except ValueError as error:
        raise ShapeMismatch(f"no GPEN generator has these shapes: {error}; {_GET_ONE}") from error
    _require_shapes(state, generator.state_dict())
    generator.to_empty(device="cpu")
    # Copied, not mapped: overwriting the file must not change or crash a running server.
    generator.load_state_dict(state)
    return generator.eval().requires_grad_(False)


def _read(path: Path) -> object:
    """Read the file with torch.load, weights only. Raises Unreadable."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    if not head:
        raise Unreadable("the file is empty; delete it and download it again")
    if not head.startswith(_TORCH_MAGIC):
        raise Unreadable(_describe_foreign(head))
    try:
        # Mapping avoids a second copy in memory; only the zip format supports it.
        mapped = zipfile.is_zipfile(path)
        checkpoint: object = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load the file unsafely, so it must not reach an operator.
        found = re.search(r"GLOBAL (\S+)", str(error))
        if found is None:
            raise Unreadable("the file is damaged; delete it and download it again") from None
        raise UnsafePickle(
            f"the file contains code ({found[1]}) besides weights, and none was run; "
            "do not trust it, or save its state dict alone"
        ) from None
    except Exception as error:  # torch raises a dozen types for broken bytes
        raise Unreadable("the file is damaged or cut short; delete it and download it again") from error
    return checkpoint


def _describe_foreign(head: bytes) -> str:
    """Describe a file that does not begin like a checkpoint."""
    if head.lstrip().startswith(b"<") or re.fullmatch(rb"[\t\n\r -~]+", head):
        text = head.decode("ascii", "replace").strip().split("\n")[0]
        return (
            f"the file is text, not weights ({text!r}): perhaps a login or error page was saved instead; "
            "delete it and download it again"
        )
    return f"the file is not a torch checkpoint (it begins with {head[:4].hex(' ')}); {_GET_ONE}"


def _unwrap(checkpoint: object) -> Mapping[str, Tensor]:
    """Find the state dict in a checkpoint. Raises NotAGenerator if there is none."""
    if not isinstance(checkpoint, Mapping):
        raise NotAGenerator(f"holds a {type(checkpoint).__name__}, not weights by name; {_GET_ONE}")
    state = checkpoint.get("g_ema", checkpoint)
    if not isinstance(state, Mapping):
        raise NotAGenerator(f"holds a {type(state).__name__} under g_ema, not weights by name; {_GET_ONE}")
    nested = [value for value in state.values() if isinstance(value, Mapping)]
    for inner in nested:
        _refuse_other_networks(inner)
    if nested:
        raise NotAGenerator(
            f"holds {_some(state)}; weights must be at the top or under g_ema, so save that part alone"
        )
    return state


def _require_generator(state: Mapping[str, Tensor]) -> None:
    """Raise NotAGenerator unless the keys are those of GPEN's generator."""
    if any(str(key).startswith("ecd0.") for key in state):
        return
    _refuse_other_networks(state)
    raise NotAGenerator(f"holds {_some(state)}, which belong to no known network; {_GET_ONE}")


def _refuse_other_networks(state: Mapping[str, Tensor]) -> None:
    """Raise NotAGenerator if a key identifies another network."""
    keys = {str(key).removeprefix("module.") for key in state}
    for key, network in _OTHER_NETWORKS.items():
        if key in keys and "ecd0.0.0.weight" not in keys:
            raise NotAGenerator(f"holds {network}; {_GET_ONE}")


def _require_sound(key: str, tensor: object) -> None:
    """Raise BadWeights unless `tensor` is a complete, dense, finite float32 tensor."""
    if not isinstance(tensor, Tensor):
        raise BadWeights(f"{key} is a {type(tensor).__name__}, not a tensor; save the state dict alone")
    if tensor.dtype != torch.float32 or tensor.layout != torch.strided:
        found = f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
        raise BadWeights(f"{key} is {found}; save the checkpoint as dense float32, with .float()")
    # With a stride of zero, a few bytes can claim to be gigabytes.
    if tensor.is_meta or tensor.untyped_storage().nbytes() < tensor.nbytes:
        raise BadWeights(f"{key} claims {tensor.nbytes} bytes but holds fewer; download the file again")
    if not tensor.isfinite().all():
        raise BadWeights(
            f"{key} has values that are not finite; its training diverged or the file is damaged"
        )


def _architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Derive the arguments of Generator from names and shapes. Raises ShapeMismatch."""
    size = 4 << _last_index(state, r"ecd(\d+)\.")
    widest = _length(state, "generator.input.input", axis=1)
    finest = _length(state, "ecd0.0.0.weight", axis=0)
    return {
        "size": size,
        # The multiplier has no effect up to 32 px; above, the width of the finest map determines it.
        "channel_multiplier": max(1, round(finest * size / (32 * widest))) if size > 32 else 1,
        "narrow": widest / 512,
        "style_dim": _length(state, "final_linear.0.weight", axis=0),
        "mlp_layers": _last_index(state, r"generator\.style\.(\d+)\."),
    }


def _last_index(state: Mapping[str, Tensor], pattern: str) -> int:
    """Return the highest number that `pattern` finds in the names, or 0. Bounded, as names are untrusted."""
    found = (re.match(pattern, str(key)) for key in state)
    return min(64, max((int(match[1][:4]) for match in found if match), default=0))


def _length(state: Mapping[str, Tensor], key: str, axis: int) -> int:
    """Return the length of one axis of the tensor `key`, at least 1. Raises ShapeMismatch."""
    if key not in state:
        raise ShapeMismatch(f"lacks {key}; download the file again, or save the whole network")
    shape = state[key].shape
    if len(shape) <= axis or shape[axis] < 1:
        raise ShapeMismatch(f"{key} has the shape {tuple(shape)}, which fits no GPEN generator; {_GET_ONE}")
    return shape[axis]


def _require_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare every name and shape with the generator's. Raises ShapeMismatch, which names the first few."""
    missing = [key for key in expected if key not in state]
    extra = [key for key in state if key not in expected]
    wrong = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    faults = {"lacks": missing, "has unknown": extra, "has": wrong}
    found = "; ".join(f"{verb} {_some(names)}" for verb, names in faults.items() if names)
    if found:
        raise ShapeMismatch(f"{found}. The checkpoint is incomplete or of another variant; {_GET_ONE}")


def _some(names: Iterable[object], most: int = 3) -> str:
    """List the first few names and the number of the others."""
    shortened = [str(name)[:120] for name in names]
    rest = len(shortened) - most
    return (", ".join(shortened[:most]) or "nothing") + (f" and {rest} more" if rest > 0 else "")
