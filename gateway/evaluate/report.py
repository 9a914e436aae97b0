"""The experiment as one HTML page that needs nothing but itself."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from gateway.evaluate.charts import Strip, strips
from gateway.evaluate.columns import SHARP_COLUMNS, STANDARDISED
from gateway.evaluate.experiment import PhotoOutcome, SharpOutcome
from gateway.evaluate.summary import FIDELITY, MEASURES
from gateway.imaging.encoder import encode
from gpen_common.types import Pixels

PICTURES = 12
"""Photos that are shown, of each kind."""

_TITLES = {"input": "Input", "degraded": "Degraded", **{c.name: c.title for c in SHARP_COLUMNS}}
_MARKED = {"ours", "face"}
_HONEST = (
    "The classical engine has no network: it denoises and sharpens. What is told of standardising holds; "
    "what is told of the enhanced pictures and of PSNR and SSIM says little about GPEN."
)
_SHOWN = ("raw", "recipe", "ours", "face")


def page(told: dict[str, Any], outcomes: Sequence[PhotoOutcome], sharp: Sequence[SharpOutcome]) -> str:
    """The report of what `summary.document` told; the outcomes give the pictures."""
    made_by = told["made_by"]
    engine = f"{made_by['engine']} ({made_by['model']})"
    template = files("gateway.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        engine=escape(engine),
        finder=escape(made_by["finder"]),
        version=escape(made_by["version"]),
        photos=told["counts"]["photos"],
        seed=told["asked"]["seed"],
        honest=f'<p class="note">{escape(_HONEST)}</p>' if made_by["engine"] == "classical" else "",
        columns=_columns(),
        counts=_counts(told["counts"]),
        spreads=_spreads(told["spreads"]) or "<p>No photo with a face.</p>",
        effects=_effects(told["side_effects"]),
        likeness=_likeness(told, sharp, engine),
        gallery=_gallery(outcomes),
    )


def _columns() -> str:
    rows = [[f"<b>{escape(column.title)}</b>", escape(column.meaning)] for column in SHARP_COLUMNS]
    return _table(["way", "what it is"], rows)


def _counts(counts: dict[str, Any]) -> str:
    lost = ", ".join(f"{_TITLES[name]}: {len(names)}" for name, names in counts["lost"].items())
    rows = [
        ["photos", str(counts["photos"])],
        ["with a face", str(counts["with_face"])],
        ["without a face", _names(counts["without_face"])],
        ["face not seen again in its portrait", escape(lost)],
        ["warnings of B", escape(", ".join(f"{k}: {n}" for k, n in counts["warnings"].items()) or "none")],
        [
            "broken",
            "<br>".join(f"{escape(k)}: {escape(why)}" for k, why in counts["broken"].items()) or "none",
        ],
    ]
    return _table(["", ""], rows)


def _spreads(spreads: dict[str, Any]) -> str:
    parts = []
    for measure, row in spreads.items():
        parts.append(f"<h3>{escape(MEASURES[measure])}</h3>")
        shown = ["input", *(column.name for column in STANDARDISED)]
        parts.append(
            strips(MEASURES[measure], [Strip(_TITLES[n], row[n]["values"], n in _MARKED) for n in shown])
        )
        cells = []
        for name, spread in row.items():
            if not spread["values"]:
                continue
            cut = "" if name == "input" or spread["cut"] is None else _cut(spread["cut"])
            digits = 1 if measure in ("exposure", "contrast") else 4
            cells.append(
                [
                    escape(_title(name)),
                    str(len(spread["values"])),
                    *(f"{spread[k]:.{digits}f}" for k in ("mean", "std", "iqr")),
                    cut,
                ]
            )
        parts.append(_table(["", "faces", "mean", "std", "IQR", "std against input"], cells))
    return "".join(parts)


def _effects(effects: dict[str, Any]) -> str:
    rows = [
        [
            escape(_TITLES[name]),
            f"{values['clipped_before']:.2%}",
            f"{values['clipped_after']:.2%}",
            f"{100 * values['clipped_growth']:+.2f}",
            f"{values['noise_before']:.2f}",
            f"{values['noise_after']:.2f}",
            f"{values['noise_ratio']:.2f}",
            f"{values['noise_ratio_p90']:.2f}",
        ]
        for name, values in effects.items()
    ]
    head = [
        "",
        "clipped before",
        "after",
        "growth, % points",
        "noise sigma before",
        "after",
        "after / before, median",
        "90th percentile",
    ]
    return _table(head, rows)


def _likeness(told: dict[str, Any], sharp: Sequence[SharpOutcome], engine: str) -> str:
    if not sharp:
        return "<p>No sharp photos were given (<code>--sharp</code>).</p>"
    likeness = told["likeness"]
    parts = [f"<p>Engine: <b>{escape(engine)}</b>. LPIPS: {escape(told['lpips'])}.</p>"]
    if likeness:
        names = list(likeness["psnr"])
        count = likeness["psnr"][names[0]]["count"]
        parts.append(
            f"<p>{count} of {len(sharp)} photos, those whose face every way shows in full. Means; standard "
            "deviations in brackets.</p>"
        )
        rows = [
            [
                escape(_TITLES[name]),
                *(_mean(likeness[m].get(name), 2 if "psnr" in m else 3) for m in likeness),
            ]
            for name in names
        ]
        parts.append(_table(["", *(FIDELITY[m] for m in likeness)], rows))
        for measure in ("psnr", "toned_psnr", "toned_ssim"):
            rows_of = [Strip(_TITLES[n], likeness[measure][n]["values"], n in _MARKED) for n in names]
            parts.append(f"<h3>{escape(FIDELITY[measure])}</h3>{strips(FIDELITY[measure], rows_of)}")
    if missing := told["counts"]["sharp_missing"]:
        lines = [
            f"{escape(name)}: {escape(', '.join(f'{_TITLES[c]} ({why})' for c, why in columns.items()))}"
            for name, columns in missing.items()
        ]
        parts.append(
            f"<details><summary>{len(lines)} photos with something missing</summary>"
            f"<p>{'<br>'.join(lines)}</p></details>"
        )
    parts.append("<h3>The compared part of the face</h3>")
    order = ("truth", "degraded", *(c.name for c in SHARP_COLUMNS))
    titles = {**_TITLES, "truth": "Truth"}
    for outcome in _evenly(sharp, PICTURES):
        how = outcome.how
        told_how = (
            f"{outcome.name}: blur {how.sigma[0]:.1f}/{how.sigma[1]:.1f} px, 1/{how.downscale:.1f}, "
            f"noise {how.noise:.0f}, JPEG {how.jpeg}"
        )
        parts.append(_figure(told_how, [(titles[n], outcome.pictures.get(n)) for n in order]))
    return "".join(parts)


def _gallery(outcomes: Sequence[PhotoOutcome]) -> str:
    faces = [outcome for outcome in outcomes if outcome.tone is not None]
    by_light = sorted(faces, key=lambda outcome: outcome.tone.exposure if outcome.tone else 0)
    parts = []
    for outcome in _evenly(by_light, PICTURES):
        exposures = ", ".join(f"{_TITLES[n]} {t.tone.exposure:.0f}" for n, t in outcome.treated.items())
        caption = f"{outcome.name}: face L {outcome.tone.exposure if outcome.tone else 0:.0f}; {exposures}"
        shown = [("Input", outcome.pictures["input"]), *((_TITLES[n], outcome.pictures[n]) for n in _SHOWN)]
        parts.append(_figure(caption, shown))
    return "".join(parts)


def _figure(caption: str, pictures: Iterable[tuple[str, Pixels | None]]) -> str:
    cells = [
        f'<div><img src="{_data_url(pixels)}" alt="{escape(title)}"><span>{escape(title)}</span></div>'
        if pixels is not None
        else f"<div><em>not shown</em><span>{escape(title)}</span></div>"
        for title, pixels in pictures
    ]
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption><div class="row">{"".join(cells)}</div></figure>'
    )


def _data_url(pixels: Pixels) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(encode(pixels, "jpeg", 85)).decode()


def _evenly(items: Sequence[Any], count: int) -> list[Any]:
    """`count` of `items` from the first to the last, evenly."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _title(name: str) -> str:
    column, _, how = name.partition(" ")
    extra = {"seen": ", as the finder sees it", "enhanced": ", enhanced"}.get(how, "")
    return f"{_TITLES[column]}{extra}"


def _cut(cut: float) -> str:
    kind = "good" if cut > 0 else "bad"
    return f'<span class="{kind}">{-100 * cut:+.0f} %</span>'


def _mean(spread: dict[str, Any] | None, digits: int) -> str:
    return (
        "" if spread is None else f"{spread['mean']:.{digits}f} <small>({spread['std']:.{digits}f})</small>"
    )


def _names(names: Sequence[str]) -> str:
    return f"{len(names)}" + (f" <small>({escape(', '.join(names))})</small>" if names else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """`head` is text, the cells of `rows` are HTML."""
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
