"""The page at `/` in a real browser, with a real server."""

import base64
import json
import re
import subprocess
import sys

import httpx
import pytest
from playwright.sync_api import TimeoutError, expect

from gateway.params import EnhanceParams
from gateway.service.keys import make_key

pytestmark = pytest.mark.slow

MAX_BYTES = 80_000
"""Total size of all files of the page."""


def open_form(open_page, url, **options):
    """Open the page and wait for its form."""
    page = open_page(f"{url}/", **options)
    page.wait_for_selector("#parameter-strength")
    return page


def choose(page, photo):
    with page.expect_file_chooser() as chooser:
        page.get_by_text("Choose a photo").click()
    chooser.value.set_files(photo)
    expect(page.locator("#view")).to_be_visible()


def open_chooser_by_key(page):
    """Open the file chooser with the space bar; retry, because a busy browser sometimes loses a key."""
    for _ in range(3):
        try:
            with page.expect_file_chooser(timeout=5000) as chooser:
                page.keyboard.press("Space")
        except TimeoutError:
            continue
        return chooser.value
    pytest.fail("the space bar did not open the file chooser")


def enhance(page):
    page.get_by_role("button", name="Enhance").click()
    expect(page.locator("#status")).to_have_text(re.compile("Done in"), timeout=60_000)


def pick(page, parameter, choice):
    row = page.locator(f"[data-parameter={parameter}]")
    row.get_by_role("radio", name=choice, exact=True).check()


def transfer(page, photo):
    """The DataTransfer of a dropped or pasted file."""
    return page.evaluate_handle(
        """([name, type, encoded]) => {
          const bytes = Uint8Array.from(atob(encoded), letter => letter.charCodeAt(0));
          const transfer = new DataTransfer();
          transfer.items.add(new File([bytes], name, {type}));
          return transfer;
        }""",
        [photo.name, "image/jpeg", base64.b64encode(photo.read_bytes()).decode()],
    )


def test_every_parameter_can_be_set(open_page, url):
    page = open_form(open_page, url)
    rows = page.locator("[data-parameter]")
    named = rows.evaluate_all("rows => rows.map(row => row.dataset.parameter)")
    assert sorted(named) == sorted(EnhanceParams.model_fields)
    assert all(row.locator("input, select").count() for row in rows.all())
    assert page.evaluate("document.querySelectorAll('input:invalid').length") == 0


def test_enhancing_shows_portrait_and_report(open_page, url, photo, finder):
    page = open_form(open_page, url)
    choose(page, photo)
    expect(page.locator("#caption")).to_contain_text("450 × 400")
    page.get_by_text("Adjustments").click()
    page.get_by_label("Brightness", exact=True).focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    pick(page, "mode", "Strong")
    enhance(page)
    assert 'data={"mode": "strong", "brightness": 20}' in page.locator("#calls").inner_text()

    expect(page.locator("img-comparison-slider")).to_be_visible()
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('.compare canvas, .compare img')].map(
            picture => { const box = picture.getBoundingClientRect();
                         return [box.x, box.y, box.width, box.height].map(Math.round); })"""
    )
    assert sizes[0] == sizes[1]
    assert "896 × 896 jpeg" in page.locator("#caption").inner_text()
    found = page.locator("#found")
    # haar estimates no pose.
    pose = ["Yaw"] if finder["GATEWAY_FACE_FINDER"] == "yunet" else []
    for word in (*pose, "Lightness", "Exposure", "Between the eyes", "classical"):
        expect(found).to_contain_text(word)
    expect(found.get_by_role("img")).to_have_attribute("aria-label", re.compile("1 face"))
    rules = page.locator("#linked tbody tr")
    expect(rules.filter(has_text="inference_size")).to_contain_text("512")
    expect(rules.filter(has_text="brightness").first).to_contain_text("20")
    stages = page.locator("#times tbody th").all_inner_texts()
    assert {"decode", "find faces", "backend", "encode"} <= set(stages)
    expect(page.locator("#warnings")).to_contain_text("no GPEN checkpoint")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save the result").click()
    assert download.value.suggested_filename == "enhanced.jpg"


def test_before_is_aligned_with_the_portrait(open_page, url, photo):
    """Without light correction and with strength 0, before and after are the same picture."""
    page = open_form(open_page, url)
    choose(page, photo)
    for group in ("Light", "File", "Advanced"):
        page.locator("summary").get_by_text(group, exact=True).click()
    pick(page, "clahe", "Off")
    pick(page, "exposure", "Off")
    page.locator("[data-parameter=format] select").select_option("png")
    page.get_by_label("Strength", exact=True).fill("0")
    enhance(page)
    difference = page.evaluate(
        """() => {
          const before = document.querySelector('.compare canvas');
          const after = document.createElement('canvas');
          after.width = after.height = 896;
          after.getContext('2d').drawImage(document.querySelector('.compare img'), 0, 0);
          const [a, b] = [before, after].map(c => c.getContext('2d').getImageData(0, 0, 896, 896).data);
          let sum = 0;
          a.forEach((value, index) => sum += Math.abs(value - b[index]));
          return sum / a.length;
        }"""
    )
    # Of 255. Browsers do not enlarge with Lanczos (0.7); an offset of half a pixel gives 1.2.
    assert difference < 0.95


def test_the_comparison_moves_by_keyboard_and_pointer(open_page, url, photo):
    page = open_form(open_page, url)
    choose(page, photo)
    enhance(page)
    slider = page.get_by_role("slider", name="Before and after")
    slider.focus()
    page.keyboard.press("ArrowRight", delay=300)
    assert int(slider.get_attribute("aria-valuenow")) > 50
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "0 % before, 100 % after")
    page.keyboard.press("End")
    expect(slider).to_have_attribute("aria-valuenow", "100")
    page.keyboard.press("PageDown")
    expect(slider).to_have_attribute("aria-valuenow", "90")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    expect(slider).to_have_attribute("aria-valuenow", re.compile("2[456]"))


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_accepts_dropped_and_pasted_photos(open_page, url, photo, way):
    page = open_form(open_page, url)
    data = transfer(page, photo)
    if way == "drop":
        page.dispatch_event("#drop", "drop", {"dataTransfer": data})
    else:
        page.evaluate(
            "data => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data}))", data
        )
    expect(page.locator("#status")).to_have_text("eileen.jpg is selected.")
    expect(page.get_by_role("button", name="Enhance")).to_be_focused()
    pick(page, "output", "Photo")
    page.get_by_role("button", name="Enhance").click()
    expect(page.locator("#caption")).to_contain_text("450 × 400 jpeg", timeout=60_000)


def test_shows_the_problem_document_for_a_file_that_is_not_a_picture(open_page, url, tmp_path):
    page = open_form(open_page, url)
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    choose(page, notes)
    page.get_by_role("button", name="Enhance").click()
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("Unsupported picture format")
    expect(problem).to_be_focused()
    problem.locator("summary").click()
    document = json.loads(problem.locator("pre").inner_text())
    assert (document["status"], document["type"]) == (415, "unsupported-picture")
    assert document["request_id"]


def test_marks_an_invalid_parameter(open_page, url, photo):
    page = open_form(open_page, url)
    choose(page, photo)
    page.get_by_text("Advanced").click()
    field = page.locator("#parameter-timeout_s")
    field.fill("5000")
    page.get_by_text("Advanced").click()
    page.get_by_role("button", name="Enhance").click()
    expect(page.get_by_role("alert")).to_contain_text("timeout_s")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_visible()
    page.get_by_role("button", name="Defaults").click()
    expect(field).to_have_value("")
    enhance(page)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_asks_for_an_api_key_where_one_is_required(open_page, start, photo, tmp_path):
    keys = tmp_path / "keys.json"
    key = make_key(keys, "page")
    with start(GATEWAY_KEYS_FILE=str(keys)) as url:
        page = open_form(open_page, url)
        choose(page, photo)
        page.get_by_role("button", name="Enhance").click()
        expect(page.get_by_role("alert")).to_contain_text("API key required")
        field = page.get_by_label("API key")
        expect(field).to_be_focused()
        field.fill(key)
        enhance(page)
        assert "$GPEN_API_KEY" in page.locator("#calls").inner_text()
        assert key not in page.content()


def test_the_example_calls_run(open_page, url, photo):
    page = open_form(open_page, url, permissions=["clipboard-read", "clipboard-write"])
    choose(page, photo)
    page.locator("[data-parameter=skin_protect] input").click()
    pick(page, "framing", "Face")
    result = photo.parent / "result.jpg"
    for language, command in (("Python", [sys.executable, "-c"]), ("curl", ["bash", "-c"])):
        page.get_by_role("button", name=f"Copy the {language} call").click()
        call = page.evaluate("navigator.clipboard.readText()")
        assert "skin_protect" in call
        result.unlink(missing_ok=True)
        subprocess.run([*command, call], cwd=photo.parent, check=True, capture_output=True)
        assert result.read_bytes().startswith(b"\xff\xd8")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_reports_no_violations(open_page, url, photo, tmp_path, axe, scheme, width):
    """Before a photo is chosen, with a problem, and with a result; best practices included."""
    page = open_form(open_page, url, color_scheme=scheme, viewport={"width": width, "height": 844})
    violations = []

    def check():
        page.evaluate(axe)
        found = page.evaluate("axe.run().then(result => result.violations)")
        violations.extend((one["id"], [node["html"][:120] for node in one["nodes"]]) for one in found)
        assert page.evaluate("document.documentElement.scrollWidth") <= width

    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    check()
    notes = tmp_path / "notes.txt"
    notes.write_text("no picture")
    choose(page, notes)
    page.get_by_role("button", name="Enhance").click()
    expect(page.get_by_role("alert")).to_be_visible()
    check()
    page.locator("#file").set_input_files(photo)
    expect(page.locator("#caption")).to_contain_text("eileen.jpg")
    enhance(page)
    check()
    assert violations == []


def test_works_by_keyboard_alone(open_page, url, photo):
    page = open_form(open_page, url)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the parameters")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    # A busy browser moves its focus later than keys arrive.
    expect(page.locator("#file")).to_be_focused()
    open_chooser_by_key(page).set_files(photo)
    expect(page.get_by_role("button", name="Enhance")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).to_have_text(re.compile("Done in"), timeout=60_000)


def test_is_small_and_loads_only_its_own_files(open_page, url):
    page = open_form(open_page, url)
    bytes_ = page.evaluate(
        "performance.getEntriesByType('resource').filter(one => one.name.includes('/page/'))"
        ".reduce((sum, one) => sum + one.decodedBodySize, 0)"
    )
    assert 0 < bytes_ < MAX_BYTES
    policy = httpx.get(f"{url}/").headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("path", "selector"), [("/docs", "#operations-pictures-enhance"), ("/redoc", "[id='operation/enhance']")]
)
def test_the_documentation_works_offline(open_page, url, path, selector):
    page = open_page(f"{url}{path}")
    page.wait_for_selector(selector, state="attached", timeout=60_000)
