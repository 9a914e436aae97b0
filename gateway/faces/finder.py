"""Create the configured face finder, or the best one available on this machine."""

import logging
from pathlib import Path
from typing import Literal

from gateway.faces.face import FaceFinder
from gateway.faces.fan import FanFinder
from gateway.faces.haar import HaarFinder
from gateway.faces.weights import FAN, YUNET, WeightsUnavailable, find_torch_hub_folder
from gateway.faces.yunet import YunetFinder

logger = logging.getLogger(__name__)

FinderName = Literal["auto", "fan", "yunet", "haar"]


class FinderUnavailable(Exception):
    """The configured face finder cannot run; the message says what is missing and what to do."""


def make_finder(name: FinderName, models_dir: Path) -> FaceFinder:
    """Create the finder `name`, and download its weights into `models_dir` if they are missing.

    `auto`: `fan` if its weights (96 MB) are on disk, else `yunet` if its weights are on disk or can be
    downloaded within seconds, else `haar`, which needs none. Blocks: call it off the event loop.
    Raises FinderUnavailable if a finder other than `auto` has no weights.
    """
    try:
        match name:
            case "haar":
                return HaarFinder()
            case "yunet":
                return YunetFinder(YUNET.fetch(models_dir))
            case "fan":
                FAN.fetch(find_torch_hub_folder(), read_timeout_s=60, total_timeout_s=1800)
                return FanFinder(YUNET.fetch(models_dir))
            case "auto":
                return _make_best_finder(models_dir)
    except WeightsUnavailable as error:
        raise FinderUnavailable(
            f"the weights of the face finder {name!r} are missing: {error}. Copy the file there by hand, or "
            "set GATEWAY_FACE_FINDER=auto to use the best finder available."
        ) from error


def _make_best_finder(models_dir: Path) -> FaceFinder:
    try:
        yunet = YUNET.fetch(models_dir)
    except WeightsUnavailable as error:
        logger.warning(
            "using the face finder haar, which misses turned heads and measures no pose: %s", error
        )
        return HaarFinder()
    if FAN.find_verified(find_torch_hub_folder()):
        logger.info("using the face finder fan")
        return FanFinder(yunet)
    logger.info("using the face finder yunet")
    return YunetFinder(yunet)
