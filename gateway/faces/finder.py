"""Which face finder serves: the one that is named, or the best one this machine has."""

import logging
from pathlib import Path
from typing import Literal

from gateway.faces.face import FaceFinder
from gateway.faces.fan import FanFinder
from gateway.faces.haar import HaarFinder
from gateway.faces.weights import FAN, YUNET, WeightsUnavailable, torch_hub_folder
from gateway.faces.yunet import YunetFinder

logger = logging.getLogger(__name__)

FinderName = Literal["auto", "fan", "yunet", "haar"]


class FinderUnavailable(Exception):
    """The named finder cannot run here; the message says what it lacks and what to do."""


def make_finder(name: FinderName, models_dir: Path) -> FaceFinder:
    """The finder `name`, ready to find; its files are looked for in `models_dir` and fetched into it.

    `auto`: `fan` if its files are on disk already (they are too large to wait for), else `yunet` if its
    file is on disk or comes within seconds, else `haar`, which needs none. Blocks: call it off the event
    loop. Raises FinderUnavailable for a named finder whose files are not to be had.
    """
    try:
        match name:
            case "haar":
                return HaarFinder()
            case "yunet":
                return YunetFinder(YUNET.fetch(models_dir))
            case "fan":
                FAN.fetch(torch_hub_folder(), read_timeout_s=60, total_timeout_s=1800)
                return FanFinder(YUNET.fetch(models_dir))
            case "auto":
                return _best_finder(models_dir)
    except WeightsUnavailable as error:
        raise FinderUnavailable(
            f"the face finder {name!r} lacks its weights: {error}. Put the file there by hand, "
            "or set GATEWAY_FACE_FINDER=auto to serve with what is there."
        ) from error


def _best_finder(models_dir: Path) -> FaceFinder:
    try:
        yunet = YUNET.fetch(models_dir)
    except WeightsUnavailable as error:
        logger.warning(
            "faces are found by haar cascades, which miss turned heads and tell no pose: %s", error
        )
        return HaarFinder()
    if FAN.verified(torch_hub_folder()):
        logger.info("faces are found by fan")
        return FanFinder(yunet)
    logger.info("faces are found by yunet")
    return YunetFinder(yunet)
