from xml.etree import ElementTree

import pytest

from gateway.evaluate.charts import Strip, draw_strips


def drawn(*rows):
    return ElementTree.fromstring(draw_strips("A <title> & more", rows))


def xs(svg, kind):
    return [float(line.get("x1")) for line in svg.iter("line") if line.get("class") == kind]


def test_draws_a_tick_for_every_value_in_order():
    svg = drawn(Strip("one", [1.0, 2.0, 4.0]), Strip("other", [3.0]))
    first, second, fourth, third = xs(svg, "tick")
    assert first < second < third < fourth
    assert second - first == pytest.approx(fourth - third, abs=0.2)


def test_draws_the_median_at_its_value():
    svg = drawn(Strip("one", [1.0, 2.0, 9.0]))
    assert xs(svg, "median") == [xs(svg, "tick")[1]]


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [1e-9, 2e-9]])
def test_draws_any_values(values):
    assert drawn(Strip("one", values)) is not None


def test_escapes_labels():
    svg = drawn(Strip('<b>"&', [1.0]))
    assert '<b>"&' in [text.text for text in svg.iter("text")]
