from xml.etree import ElementTree

import pytest

from gateway.evaluate.charts import Strip, strips


def drawn(*rows):
    return ElementTree.fromstring(strips("A <title> & more", rows))


def xs(svg, kind):
    return [float(line.get("x1")) for line in svg.iter("line") if line.get("class") == kind]


def test_every_value_is_a_tick_in_the_order_of_the_axis():
    svg = drawn(Strip("one", [1.0, 2.0, 4.0]), Strip("other", [3.0]))
    first, second, fourth, third = xs(svg, "tick")
    assert first < second < third < fourth
    assert second - first == pytest.approx(fourth - third, abs=0.2)


def test_the_median_is_where_its_value_is():
    svg = drawn(Strip("one", [1.0, 2.0, 9.0]))
    assert xs(svg, "median") == [xs(svg, "tick")[1]]


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [1e-9, 2e-9]])
def test_any_values_make_a_picture(values):
    assert drawn(Strip("one", values)) is not None


def test_labels_are_text_whatever_they_hold():
    svg = drawn(Strip('<b>"&', [1.0]))
    assert '<b>"&' in [text.text for text in svg.iter("text")]
