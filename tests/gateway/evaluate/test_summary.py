import json

import numpy as np
import pytest

from gateway.evaluate.columns import SHARP_COLUMNS, STANDARDISED
from gateway.evaluate.degrade import draw
from gateway.evaluate.experiment import PhotoOutcome, SharpOutcome, Treated
from gateway.evaluate.fidelity import Fidelity
from gateway.evaluate.measure import Place, Tone
from gateway.evaluate.summary import (
    build_document,
    count_warnings,
    summarise_fidelity,
    summarise_side_effects,
    summarise_spreads,
)

COLUMNS = ["degraded", *(column.name for column in SHARP_COLUMNS)]
LIKE = Fidelity(psnr=30.0, ssim=0.9, toned_psnr=31.0, toned_ssim=0.95, lpips=None)


def photo(name, exposure, after, noise=(1.0, 1.0), clipped=(0.0, 0.0), seen=True, warned=()):
    """A photo with a face whose exposure becomes `after` in every column."""
    before = Tone(exposure, 40.0, clipped[0], noise[0])
    place = Place(0.5, 0.4, 0.2)
    treated = Treated(place, place if seen else None, Tone(after, 40.0, clipped[1], noise[1]), before)
    return PhotoOutcome(
        name, 100, 100, None, Place(exposure / 255, 0.4, 0.2), before,
        treated={column.name: treated for column in STANDARDISED},
        enhanced={column.name: before for column in SHARP_COLUMNS},
        warnings=warned,
    )  # fmt: skip


FACELESS = PhotoOutcome("wall", 100, 100, warnings=("no_face: none",))


def test_cut_is_the_relative_reduction_of_the_spread():
    table = summarise_spreads([photo("a", 100, 140), photo("b", 200, 150), FACELESS])
    row = table["exposure"]["ours"]
    assert (row["std"], row["iqr"], row["cut"]) == pytest.approx((5, 5, 0.9))
    assert table["exposure"]["raw enhanced"]["cut"] == 0
    assert table["eye_x"]["ours"]["cut"] == pytest.approx(1)


def test_cut_is_negative_for_a_larger_spread():
    assert summarise_spreads([photo("a", 140, 100), photo("b", 150, 200)])["exposure"]["ours"][
        "cut"
    ] == pytest.approx(-9)


def test_faces_that_are_not_found_again_have_no_seen_place():
    table = summarise_spreads([photo("a", 100, 140), photo("b", 200, 150, seen=False)])
    assert len(table["scale"]["ours"]["values"]) == 2
    assert len(table["scale"]["ours seen"]["values"]) == 1


def test_noise_below_rounding_counts_as_rounding():
    effects = summarise_side_effects([photo("a", 100, 140, noise=(0.01, 0.2), clipped=(0.01, 0.03))])["ours"]
    assert effects["noise_ratio"] == 1
    assert effects["clipped_growth"] == pytest.approx(0.02)


def sharp(name, missing=()):
    fidelity = {column: LIKE for column in COLUMNS if column not in missing}
    return SharpOutcome(name, draw(1, name), fidelity, dict.fromkeys(missing, "cut off"), {})


def test_means_are_over_the_same_photos_in_every_column():
    table = summarise_fidelity([sharp("a"), sharp("b", missing=("recipe",))])
    assert {row["count"] for row in table["psnr"].values()} == {1}
    assert list(table["psnr"]) == COLUMNS


def test_unavailable_measure_has_no_row():
    assert "lpips" not in summarise_fidelity([sharp("a")])


def test_counts_warnings_by_kind():
    photos = [photo("a", 1, 1, warned=("yaw: 30", "small_face: x")), photo("b", 1, 1, warned=("yaw: 40",))]
    assert count_warnings(photos) == {"yaw": 2, "small_face": 1}


@pytest.mark.parametrize("outcomes", [[], [FACELESS], [photo("a", 100, 140), FACELESS]])
@pytest.mark.parametrize("truths", [[], [sharp("a"), sharp("b", missing=("ours",))]])
def test_any_outcomes_are_valid_json(outcomes, truths):
    summary = build_document({"engine": "x"}, {"seed": 1}, outcomes, truths, {"c": "broken"}, "not available")
    again = json.loads(json.dumps(summary, allow_nan=False))
    assert again["counts"]["with_face"] == len([o for o in outcomes if o.has_face])
    assert np.isfinite([row["std"] for rows in again["spreads"].values() for row in rows.values()]).all()
