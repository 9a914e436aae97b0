"""Summarise the outcomes as JSON data for the report."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from gateway.evaluate.columns import COLUMNS, SHARP_COLUMNS, STANDARDISED
from gateway.evaluate.experiment import PhotoOutcome, SharpOutcome

MEASURES = {
    "eye_x": "Eyes, across (share of width)",
    "eye_y": "Eyes, down (share of height)",
    "scale": "Face scale (eyes' distance, share of the short edge)",
    "exposure": "Exposure (mean L of the face, of 255)",
    "contrast": "Contrast (spread of L in the face, of 255)",
}
"""The measures across photos and their titles."""

FIDELITY = {
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "toned_psnr": "PSNR, tone matched, dB",
    "toned_ssim": "SSIM, tone matched",
    "lpips": "LPIPS",
}
"""The measures against the ground truth and their titles."""

# Standard deviation of rounding to whole levels, 1 / sqrt(12): the smallest measurable noise.
_ROUNDING = 0.289


def summarise_spreads(outcomes: Sequence[PhotoOutcome]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {measure: {column: {values, mean, std, iqr, cut}}} over photos with a face, including `input`.

    cut: relative reduction of the input's std, negative if it grew. `NAME seen`: the column NAME
    as the finder sees the face in the portrait.
    """
    faces = [outcome for outcome in outcomes if outcome.has_face]
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for measure in MEASURES:
        row = {"input": _describe_spread(_measure_input(outcome, measure) for outcome in faces)}
        for column in STANDARDISED:
            name = column.name
            row[name] = _describe_spread(_measure_treated(outcome, name, measure) for outcome in faces)
            if measure in ("eye_x", "eye_y", "scale"):
                row[f"{name} seen"] = _describe_spread(
                    getattr(seen, measure)
                    for outcome in faces
                    if (seen := outcome.treated[name].seen) is not None
                )
        if measure in ("exposure", "contrast"):
            for column in COLUMNS:
                row[f"{column.name} enhanced"] = _describe_spread(
                    getattr(outcome.enhanced[column.name], measure) for outcome in faces
                )
        before = row["input"]["std"]
        for spread in row.values():
            spread["cut"] = None if not before else 1 - spread["std"] / before
        table[measure] = row
    return table


def summarise_side_effects(outcomes: Sequence[PhotoOutcome]) -> dict[str, dict[str, float]]:
    """Return {column: {clipped_before, clipped_after, clipped_growth, noise_before, noise_after, noise_ratio,
    noise_ratio_p90}}: means over photos, but the ratio is a median. Noise below rounding noise counts as
    rounding noise."""
    faces = [outcome for outcome in outcomes if outcome.has_face]
    table = {}
    for column in STANDARDISED if faces else ():
        pairs = [(o.treated[column.name].untouched, o.treated[column.name].tone) for o in faces]
        before, after = (np.array([pair[i].noise for pair in pairs]) for i in (0, 1))
        ratio = np.maximum(after, _ROUNDING) / np.maximum(before, _ROUNDING)
        clipped = [float(np.mean([pair[i].clipped for pair in pairs])) for i in (0, 1)]
        table[column.name] = {
            "clipped_before": clipped[0],
            "clipped_after": clipped[1],
            "clipped_growth": clipped[1] - clipped[0],
            "noise_before": float(before.mean()),
            "noise_after": float(after.mean()),
            "noise_ratio": float(np.median(ratio)),
            "noise_ratio_p90": float(np.percentile(ratio, 90)),
        }
    return table


def summarise_fidelity(outcomes: Sequence[SharpOutcome]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return {measure: {column: {values, mean, median, std, count}}}, including the column `degraded`.

    Only photos that have every column count, so that all means are over the same photos.
    """
    names = ["degraded", *(column.name for column in SHARP_COLUMNS)]
    whole = [outcome for outcome in outcomes if all(name in outcome.fidelity for name in names)]
    table: dict[str, dict[str, dict[str, Any]]] = {}
    for measure in FIDELITY:
        row = {}
        for name in names:
            values = [getattr(outcome.fidelity[name], measure) for outcome in whole]
            if values and all(value is not None for value in values):
                row[name] = {**_describe_spread(values), "count": len(values)}
        if row:
            table[measure] = row
    return table


def count_warnings(outcomes: Iterable[PhotoOutcome]) -> dict[str, int]:
    """Count the warnings by kind."""
    kinds = Counter(warning.partition(":")[0] for outcome in outcomes for warning in outcome.warnings)
    return dict(kinds.most_common())


def build_document(
    made_by: dict[str, str],
    run: dict[str, Any],
    outcomes: Sequence[PhotoOutcome],
    sharp: Sequence[SharpOutcome],
    broken: dict[str, str],
    lpips: str,
) -> dict[str, Any]:
    """Build the content of `report.json`.

    made_by: version, finder, model and engine. run: counts, seed and limit. broken: files
    without an outcome, with the reason. lpips: `available`, or why it is not.
    """
    faces = [outcome for outcome in outcomes if outcome.has_face]
    return {
        "made_by": made_by,
        "asked": run,
        "columns": {column.name: asdict(column) for column in SHARP_COLUMNS},
        "counts": {
            "photos": len(outcomes),
            "with_face": len(faces),
            "without_face": [outcome.name for outcome in outcomes if not outcome.has_face],
            "lost": {
                column.name: [o.name for o in faces if o.treated[column.name].seen is None]
                for column in STANDARDISED
            },
            "sharp": len(sharp),
            "sharp_missing": {outcome.name: outcome.missing for outcome in sharp if outcome.missing},
            "broken": broken,
            "warnings": count_warnings(outcomes),
        },
        "spreads": summarise_spreads(outcomes) if faces else {},
        "side_effects": summarise_side_effects(outcomes),
        "lpips": lpips,
        "likeness": summarise_fidelity(sharp),
        "photos": [_describe_photo(outcome) for outcome in outcomes],
        "sharp": [
            {"name": o.name, "how": asdict(o.how), "missing": o.missing,
             "fidelity": {name: asdict(value) for name, value in o.fidelity.items()}}
            for o in sharp
        ],
    }  # fmt: skip


def _describe_photo(outcome: PhotoOutcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "size": [outcome.width, outcome.height],
        "quality": outcome.quality and outcome.quality.model_dump(),
        "input": outcome.input and asdict(outcome.input),
        "tone": outcome.tone and asdict(outcome.tone),
        "treated": {name: asdict(value) for name, value in outcome.treated.items()},
        "enhanced": {name: asdict(value) for name, value in outcome.enhanced.items()},
        "warnings": list(outcome.warnings),
    }


def _measure_input(outcome: PhotoOutcome, measure: str) -> float:
    return float(getattr(outcome.tone if measure in ("exposure", "contrast") else outcome.input, measure))


def _measure_treated(outcome: PhotoOutcome, column: str, measure: str) -> float:
    treated = outcome.treated[column]
    return float(getattr(treated.tone if measure in ("exposure", "contrast") else treated.place, measure))


def _describe_spread(values: Iterable[float]) -> dict[str, Any]:
    listed = [float(value) for value in values]
    if not listed:
        return {"values": [], "mean": None, "median": None, "std": 0.0, "iqr": 0.0}
    low, middle, high = np.percentile(listed, (25, 50, 75))
    return {
        "values": listed,
        "mean": float(np.mean(listed)),
        "median": float(middle),
        "std": float(np.std(listed)),
        "iqr": float(high - low),
    }
