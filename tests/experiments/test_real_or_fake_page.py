"""Tests of the page on which people tell samples from photos, run in a browser."""

import json
import re
import shutil

import pytest
from PIL import Image

from experiments.support.binomial import wilson
from tests.support.study_cases import NAME, PAIRS, decode, make_study

PAUSE = 500
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome here")
KEYS = {"left": ["ArrowLeft", "f"], "right": ["ArrowRight", "J"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    options = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking"
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=options.split())
        yield browser
        browser.close()


@pytest.fixture
def page(browser, folder):
    """Yield the start screen with its clock stopped; check that it sends no requests or errors."""
    page = browser.new_page()
    page.set_default_timeout(5000)
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.clock.install(time=0)
    page.goto((folder / "out" / f"{NAME}.html").as_uri() + "?seed=3")
    page.clock.pause_at(1000)
    yield page
    assert errors == []
    assert [url for url in requests if not url.startswith(("file://", "data:"))] == []
    assert len([url for url in requests if url.startswith("file://")]) == 1
    page.close()


def start(page, seconds="1 s"):
    page.get_by_label(seconds, exact=True).check()
    page.get_by_role("button", name="Start").click()


def wait_for_pair(page, number):
    """Wait for the pair of this number, from 1; return the side of the photo."""
    page.clock.run_for(PAUSE)
    page.locator("#pair[data-phase=shown]").wait_for()
    assert page.locator("#count").inner_text() == f"{number} of {PAIRS}"
    return page.evaluate("study.pairs[study.current].truth")


def wrong(side):
    return {"left": "right", "right": "left"}[side]


def visible(page):
    """Return how many of the two images are visible."""
    return sum(image.is_visible() for image in page.locator(".frame img").all())


@pytest.mark.parametrize("mistakes", [0, 2, 4])
def test_a_study_by_keys(page, mistakes):
    start(page)
    for number in range(1, PAIRS + 1):
        truth = wait_for_pair(page, number)
        side = wrong(truth) if number <= mistakes else truth
        page.keyboard.press(KEYS[side][number % 2])
    low, high = wilson(mistakes, PAIRS)
    assert page.locator("#percent").inner_text() == f"{100 * mistakes // PAIRS}%"
    shown = f"{100 * low:.1f}% to {100 * high:.1f}%".replace(".0%", "%")
    assert page.locator("#interval").inner_text() == shown
    assert page.locator("#fraction").inner_text().endswith(f"in {mistakes} of 4 pairs.")
    assert page.locator("#answered").inner_text() == "4 of 4"
    assert page.locator("#time").inner_text() == "1 second a pair"
    assert page.locator("#model-again").inner_text() == "<model>"
    meaning = {0: "You can tell", 2: "the interval includes 50%", 4: "You were misled"}[mistakes]
    assert meaning in page.locator("#meaning").inner_text()
    assert "50% is perfect" in page.locator("#result").inner_text()
    badges = page.locator(".review header").all_inner_texts()
    assert ["fooled" in badge for badge in badges] == [k < mistakes for k in range(PAIRS)]
    choices = page.locator(".review .chosen figcaption").all_inner_texts()
    assert choices == ["sample" if k < mistakes else "photo" for k in range(PAIRS)]


def test_a_study_by_clicks_and_its_answers_as_json(page, tmp_path):
    start(page, "no limit")
    truths = []
    for number in range(1, PAIRS + 1):
        truths.append(wait_for_pair(page, number))
        page.clock.run_for(100 * number + 60_000)
        assert visible(page) == 2  # no time limit
        side = wrong(truths[-1]) if number == 3 else truths[-1]
        page.locator(f"#{side}").click()
    with page.expect_download() as event:
        page.get_by_role("button", name="Save answers as JSON").click()
    assert event.value.suggested_filename == "real-or-fake-answers.json"
    event.value.save_as(tmp_path / "answers.json")
    record = json.loads((tmp_path / "answers.json").read_text())
    assert (record["answered"], record["fooled"], record["percentage_fooled"]) == (4, 1, 25)
    assert record["interval"] == pytest.approx([100 * share for share in wilson(1, 4)])
    assert (record["page_seed"], record["seconds"], record["made"]["model"]) == (3, 0, "<model>")
    answers = record["answers"]
    assert [answer["photo"] for answer in answers] == truths
    assert [answer["fooled"] for answer in answers] == [False, False, True, False]
    assert [answer["milliseconds"] for answer in answers] == [60_100, 60_200, 60_300, 60_400]
    assert sorted(answer["image"] for answer in answers) == [0, 1, 3, 4]
    page.get_by_role("button", name="Again").click()
    start(page)
    wait_for_pair(page, 1)
    assert page.evaluate("study.seed") == 4
    assert page.evaluate("study.pairs.map(pair => pair.answer)") == [None] * PAIRS


def test_the_time_to_look_ends_and_an_answer_counts_after_it(page):
    start(page, "0.5 s")
    assert visible(page) == 0
    truth = wait_for_pair(page, 1)
    assert visible(page) == 2
    page.clock.run_for(499)
    assert visible(page) == 2
    page.clock.run_for(1)
    assert visible(page) == 0
    assert page.locator("#status").inner_text() == "Time is up. Answer from memory."
    page.keyboard.press(KEYS[truth][0])
    assert page.evaluate("study.pairs[0].answer") == truth
    wait_for_pair(page, 2)
    assert page.locator("#status").inner_text() == ""


def test_the_time_of_a_pair_that_was_answered_does_not_end_the_next(page):
    start(page, "1 s")
    wait_for_pair(page, 1)
    page.clock.run_for(400)
    page.keyboard.press("f")
    wait_for_pair(page, 2)
    page.clock.run_for(999)
    assert visible(page) == 2


def test_two_presses_are_one_answer(page):
    start(page)
    wait_for_pair(page, 1)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowRight")
    page.locator("#right").dblclick()
    assert page.evaluate("study.current") == 1
    assert page.evaluate("study.pairs.map(pair => pair.answer)") == ["left", None, None, None]
    wait_for_pair(page, 2)
    page.locator("#right").dblclick()
    page.keyboard.press("Control+f")
    assert page.evaluate("study.pairs.map(pair => pair.answer)") == ["left", "right", None, None]
    wait_for_pair(page, 3)
    page.keyboard.down("j")
    wait_for_pair(page, 4)
    page.keyboard.down("j")  # a held key repeats
    assert page.evaluate("study.pairs.at(-1).answer") is None


def test_a_key_held_down_on_an_image_is_one_answer(page):
    start(page)
    wait_for_pair(page, 1)
    page.locator("#left").focus()
    page.keyboard.down("Enter")
    wait_for_pair(page, 2)
    page.keyboard.down("Enter")
    assert page.evaluate("study.pairs.map(pair => pair.answer)") == ["left", None, None, None]
    page.keyboard.up("Enter")
    page.keyboard.press("Enter")
    assert page.evaluate("study.pairs[1].answer") == "left"


def test_the_photo_is_where_the_study_says(page, folder):
    files = sorted((folder / "faces" / "val").glob("*.png"))
    start(page)
    for number in range(1, PAIRS + 1):
        truth = wait_for_pair(page, number)
        place = page.evaluate("DATA.pairs[study.pairs[study.current].image].image")
        photo = Image.open(files[place]).tobytes()
        for side in ("left", "right"):
            shown = decode(page.locator(f"#{side} img").get_attribute("src")).tobytes()
            assert (shown == photo) == (side == truth)
        page.keyboard.press("f")


def test_a_keyboard_is_enough(page):
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.evaluate("study.seconds") == 2  # the choice after 1
    truth = wait_for_pair(page, 1)
    page.keyboard.press("Tab")
    focus = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focus == "Left: the camera took this one"
    page.keyboard.press("Enter")
    assert page.evaluate("study.pairs[0].answer") == "left"
    assert page.evaluate("study.pairs[0].truth") == truth


def test_finishing_early_counts_what_was_answered(page):
    start(page)
    truth = wait_for_pair(page, 1)
    page.keyboard.press(KEYS[wrong(truth)][0])
    wait_for_pair(page, 2)
    page.get_by_role("button", name="Finish now").click()
    assert page.locator("#percent").inner_text() == "100%"
    assert page.locator("#fraction").inner_text().endswith("in 1 of 1 pair.")
    assert page.locator("#answered").inner_text() == "1 of 4"
    page.clock.run_for(10_000)
    assert page.evaluate("study.phase") == "result"
    page.get_by_role("button", name="Again").click()
    start(page)
    page.get_by_role("button", name="Finish now").click()  # before the first pair is shown
    page.clock.run_for(10_000)
    page.wait_for_timeout(100)  # for the rest of the start
    assert page.locator("#headline").is_visible()
    assert page.locator("#headline").inner_text() == "No pair was answered"
    assert not page.locator("#percent").is_visible()


def test_sides_and_order_are_fair_and_a_seed_repeats_them(page):
    rounds = 2000
    deals = page.evaluate(f"Array.from({{length: {rounds}}}, (_, seed) => deal(seed, {PAIRS}))")
    for place in range(PAIRS):
        lefts = sum(deal[place]["truth"] == "left" for deal in deals)
        firsts = sum(deal[place]["image"] == 0 for deal in deals)
        assert abs(lefts - rounds / 2) < 4 * (rounds / 4) ** 0.5
        assert abs(firsts - rounds / 4) < 4 * (rounds * 3 / 16) ** 0.5
    same = sum(deal[0]["truth"] == deal[1]["truth"] for deal in deals)
    assert abs(same - rounds / 2) < 4 * (rounds / 4) ** 0.5
    assert all(sorted(pair["image"] for pair in deal) == [0, 1, 2, 3] for deal in deals)
    assert page.evaluate(f"deal(7, {PAIRS})") == deals[7]


def test_nothing_beside_the_images_tells_which_is_the_photo(page):
    start(page)
    markup = {}
    for number in range(1, PAIRS + 1):
        truth = wait_for_pair(page, number)
        text = page.locator("#pair .choices").evaluate("node => node.outerHTML")
        markup[truth] = re.sub(r'src="data:image/png;base64,[^"]*"', "src", text)
        page.keyboard.press("f")
    assert set(markup) == {"left", "right"}
    assert markup["left"] == markup["right"]
    assert page.locator("#data").count() == 0


def test_the_interval_is_wilsons(page):
    cases = [(0, 1), (1, 1), (3, 7), (7, 40), (40, 40), (100, 200)]
    for case in cases:
        assert page.evaluate(f"wilson{case}") == pytest.approx(wilson(*case), abs=1e-9)


@pytest.mark.parametrize("width", [320, 380, 1200])
def test_images_are_large_and_fit_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 700})
    start(page)
    wait_for_pair(page, 1)
    boxes = [image.bounding_box() for image in page.locator(".frame img").all()]
    assert all(box["width"] == pytest.approx(box["height"]) for box in boxes)
    assert boxes[0]["width"] >= min(256, 0.35 * width)
    assert boxes[0]["x"] + boxes[0]["width"] < boxes[1]["x"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("f")
    page.get_by_role("button", name="Finish now").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
