"""Render the experiment as one self-contained HTML page."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from gateway.evaluate.charts import Strip, draw_strips
from gateway.evaluate.columns import SHARP_COLUMNS, STANDARDISED
from gateway.evaluate.experiment import PhotoOutcome, SharpOutcome
from gateway.evaluate.summary import FIDELITY, MEASURES
from gateway.imaging.encoder import encode
from gpen_common.types import Pixels

PICTURES = 12
"""Photos in each gallery of the report."""

_TITLES = {"input": "Input", "degraded": "Degraded", **{c.name: c.title for c in SHARP_COLUMNS}}
_MARKED = {"ours", "face"}
_CLASSICAL_NOTE = (
    "The classical engine has no network: it denoises and sharpens. The measurements of standardisation are "
    "valid; the enhanced pictures, PSNR and SSIM say little about GPEN."
)
_SHOWN = ("raw", "recipe", "ours", "face")


def render_page(
    summary: dict[str, Any], outcomes: Sequence[PhotoOutcome], sharp: Sequence[SharpOutcome]
) -> str:
    """Render `summary`, from `summary.build_document`, with the pictures of the outcomes."""
    made_by = summary["made_by"]
    engine = f"{made_by['engine']} ({made_by['model']})"
    template = files("gateway.evaluate").joinpath("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        engine=escape(engine),
        finder=escape(made_by["finder"]),
        version=escape(made_by["version"]),
        photos=summary["counts"]["photos"],
        seed=summary["asked"]["seed"],
        note=f'<p class="note">{escape(_CLASSICAL_NOTE)}</p>' if made_by["engine"] == "classical" else "",
        columns=_render_columns(),
        counts=_render_counts(summary["counts"]),
        spreads=_render_spreads(summary["spreads"]) or "<p>No photo with a face.</p>",
        effects=_render_effects(summary["side_effects"]),
        likeness=_render_fidelity(summary, sharp, engine),
        gallery=_render_gallery(outcomes),
    )


def _render_columns() -> str:
    rows = [[f"<b>{escape(column.title)}</b>", escape(column.meaning)] for column in SHARP_COLUMNS]
    return _render_table(["column", "processing"], rows)


def _render_counts(counts: dict[str, Any]) -> str:
    lost = ", ".join(f"{_TITLES[name]}: {len(names)}" for name, names in counts["lost"].items())
    rows = [
        ["photos", str(counts["photos"])],
        ["with a face", str(counts["with_face"])],
        ["without a face", _render_names(counts["without_face"])],
        ["face not found again in its portrait", escape(lost)],
        ["warnings of B", escape(", ".join(f"{k}: {n}" for k, n in counts["warnings"].items()) or "none")],
        [
            "broken",
            "<br>".join(f"{escape(k)}: {escape(why)}" for k, why in counts["broken"].items()) or "none",
        ],
    ]
    return _render_table(["", ""], rows)


def _render_spreads(spreads: dict[str, Any]) -> str:
    parts = []
    for measure, row in spreads.items():
        parts.append(f"<h3>{escape(MEASURES[measure])}</h3>")
        shown = ["input", *(column.name for column in STANDARDISED)]
        parts.append(
            draw_strips(MEASURES[measure], [Strip(_TITLES[n], row[n]["values"], n in _MARKED) for n in shown])
        )
        cells = []
        for name, spread in row.items():
            if not spread["values"]:
                continue
            cut = "" if name == "input" or spread["cut"] is None else _render_cut(spread["cut"])
            digits = 1 if measure in ("exposure", "contrast") else 4
            cells.append(
                [
                    escape(_title_of(name)),
                    str(len(spread["values"])),
                    *(f"{spread[k]:.{digits}f}" for k in ("mean", "std", "iqr")),
                    cut,
                ]
            )
        parts.append(_render_table(["", "faces", "mean", "std", "IQR", "change of std"], cells))
    return "".join(parts)


def _render_effects(effects: dict[str, Any]) -> str:
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
        "growth, percentage points",
        "noise sigma before",
        "after",
        "after / before, median",
        "90th percentile",
    ]
    return _render_table(head, rows)


def _render_fidelity(summary: dict[str, Any], sharp: Sequence[SharpOutcome], engine: str) -> str:
    if not sharp:
        return "<p>The run had no sharp photos (<code>--sharp</code>).</p>"
    likeness = summary["likeness"]
    parts = [f"<p>Engine: <b>{escape(engine)}</b>. LPIPS: {escape(summary['lpips'])}.</p>"]
    if likeness:
        names = list(likeness["psnr"])
        count = likeness["psnr"][names[0]]["count"]
        parts.append(
            f"<p>{count} of {len(sharp)} photos: those with the whole face in every column. Means, with "
            "standard deviations in brackets.</p>"
        )
        rows = [
            [
                escape(_TITLES[name]),
                *(_render_mean(likeness[m].get(name), 2 if "psnr" in m else 3) for m in likeness),
            ]
            for name in names
        ]
        parts.append(_render_table(["", *(FIDELITY[m] for m in likeness)], rows))
        for measure in ("psnr", "toned_psnr", "toned_ssim"):
            rows_of = [Strip(_TITLES[n], likeness[measure][n]["values"], n in _MARKED) for n in names]
            parts.append(f"<h3>{escape(FIDELITY[measure])}</h3>{draw_strips(FIDELITY[measure], rows_of)}")
    if missing := summary["counts"]["sharp_missing"]:
        lines = [
            f"{escape(name)}: {escape(', '.join(f'{_TITLES[c]} ({why})' for c, why in columns.items()))}"
            for name, columns in missing.items()
        ]
        parts.append(
            f"<details><summary>{len(lines)} photos with missing results</summary>"
            f"<p>{'<br>'.join(lines)}</p></details>"
        )
    parts.append("<h3>The compared crops</h3>")
    order = ("truth", "degraded", *(c.name for c in SHARP_COLUMNS))
    titles = {**_TITLES, "truth": "Ground truth"}
    for outcome in _pick_evenly(sharp, PICTURES):
        how = outcome.how
        caption = (
            f"{outcome.name}: blur {how.sigma[0]:.1f}/{how.sigma[1]:.1f} px, 1/{how.downscale:.1f}, "
            f"noise {how.noise:.0f}, JPEG {how.jpeg}"
        )
        parts.append(_render_figure(caption, [(titles[n], outcome.pictures.get(n)) for n in order]))
    return "".join(parts)


def _render_gallery(outcomes: Sequence[PhotoOutcome]) -> str:
    faces = [outcome for outcome in outcomes if outcome.tone is not None]
    by_light = sorted(faces, key=lambda outcome: outcome.tone.exposure if outcome.tone else 0)
    parts = []
    for outcome in _pick_evenly(by_light, PICTURES):
        exposures = ", ".join(f"{_TITLES[n]} {t.tone.exposure:.0f}" for n, t in outcome.treated.items())
        caption = f"{outcome.name}: face L {outcome.tone.exposure if outcome.tone else 0:.0f}; {exposures}"
        shown = [("Input", outcome.pictures["input"]), *((_TITLES[n], outcome.pictures[n]) for n in _SHOWN)]
        parts.append(_render_figure(caption, shown))
    return "".join(parts)


def _render_figure(caption: str, pictures: Iterable[tuple[str, Pixels | None]]) -> str:
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


def _pick_evenly(items: Sequence[Any], count: int) -> list[Any]:
    """Pick `count` of `items` at even distances, including the first and the last."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _title_of(name: str) -> str:
    column, _, how = name.partition(" ")
    extra = {"seen": ", found again", "enhanced": ", enhanced"}.get(how, "")
    return f"{_TITLES[column]}{extra}"


def _render_cut(cut: float) -> str:
    kind = "good" if cut > 0 else "bad"
    return f'<span class="{kind}">{-100 * cut:+.0f} %</span>'


def _render_mean(spread: dict[str, Any] | None, digits: int) -> str:
    return (
        "" if spread is None else f"{spread['mean']:.{digits}f} <small>({spread['std']:.{digits}f})</small>"
    )


def _render_names(names: Sequence[str]) -> str:
    return f"{len(names)}" + (f" <small>({escape(', '.join(names))})</small>" if names else "")


def _render_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table. head: text. rows: cells as HTML."""
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
