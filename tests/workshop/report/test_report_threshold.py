"""Laws of the threshold to try: the data of the page give the verdicts of the evaluation."""

import numpy as np
import pytest

from evaluations import THRESHOLD, USUAL, counted, read_json, report, verdict
from patchcore_build.report.cards import MAX_IMAGES
from patchcore_build.report.page import slider_ends

OUTCOMES = ("found", "missed", "false alarm", "passed")
NO_IMAGES = "\N{EN DASH}"


def count(data, threshold):
    """How often each of OUTCOMES is given at a threshold, by the data of the page."""
    verdicts = [verdict(anomalous, score, threshold) for _, anomalous, score in data["images"]]
    return tuple(verdicts.count(outcome) for outcome in OUTCOMES)


def random_scores(seed, images):
    """Scores with all digits of a double, some of them on the threshold."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(THRESHOLD, 1, images)
    scores[:: images // 4] = THRESHOLD
    kinds = rng.choice(["good", "crack", "stain"], images)
    return tuple(
        (f"{kind}/{number:03}.png", float(score))
        for number, (kind, score) in enumerate(zip(kinds, scores, strict=True))
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_verdicts_by_the_data_of_the_script_are_those_of_the_evaluation(tmp_path, seed):
    scored = random_scores(seed, 40)
    page = report(tmp_path, scored, size=(8, 8))
    data, content = page.data(), read_json(tmp_path)
    assert data["threshold"] == content["artifact"]["image_threshold"] == THRESHOLD
    own = content["image_confusion"]
    assert count(data, data["threshold"]) == (
        own["true_positives"], own["false_negatives"], own["false_positives"],
        own["true_negatives"],
    )  # fmt: skip
    for _, score in scored:
        for threshold in (score, np.nextafter(score, -9), np.nextafter(score, 9)):
            assert count(data, threshold) == counted(scored, threshold)


def test_each_image_of_the_data_is_the_image_of_its_card(tmp_path):
    page = report(tmp_path)
    data, scores = page.data(), dict(USUAL)
    assert len(data["images"]) == len(USUAL)
    cards = [one for one in page.elements if "data-number" in one.attributes]
    for card, (name, outcome) in zip(cards, page.cards(), strict=True):
        kind, anomalous, score = data["images"][int(card.attributes["data-number"])]
        assert data["kinds"][kind] == name.split("/")[0]
        assert int(card.attributes["data-kind"]) == kind
        assert score == scores[name]
        assert verdict(anomalous, score, data["threshold"]) == outcome
        assert float(card.attributes["data-p-value"]) == 0.5


def test_the_data_have_every_image_though_the_page_shows_a_part(tmp_path):
    total = MAX_IMAGES + 5
    scored = tuple((f"good/{n:03d}.png", 1.0 + n / 1000) for n in range(total))
    page = report(tmp_path, scored, size=(8, 8))
    assert count(page.data(), 1.01) == counted(scored, 1.01) == (0, 0, total - 11, 11)
    assert len(page.cards()) == MAX_IMAGES


def test_filters_offer_every_kind_and_every_verdict(tmp_path):
    page = report(tmp_path)
    kinds = page.data()["kinds"]
    of_kind = [one for one in page.all("option") if page.by_id("kind") in one.above()]
    assert [(one.attributes["value"], one.text) for one in of_kind] == [
        ("", "all"), *((str(number), kind) for number, kind in enumerate(kinds)),
    ]  # fmt: skip
    choices = [one.attributes for one in page.all("input", type="radio", name="verdict")]
    assert [choice["value"] for choice in choices] == ["", *OUTCOMES]
    assert [choice["value"] for choice in choices if "checked" in choice] == [""]
    shown = {one.attributes["data-kind"] for one in page.all("li") if "data-kind" in one.attributes}
    assert shown == {str(number) for number in range(len(kinds))}


@pytest.mark.parametrize("scores", [[1.0, 3.5, 2.0], [2.0], [-1e9, 5.0], [1e-12], [2.5, 2.5]])
def test_the_slider_reaches_from_flagging_every_image_to_flagging_none(scores):
    ends = slider_ends(scores, THRESHOLD)
    assert all(score > ends.low for score in scores)
    assert not any(score > ends.high for score in scores)
    assert ends.low < THRESHOLD < ends.high


def test_slider_and_number_start_at_the_artifacts_threshold(tmp_path):
    page = report(tmp_path)
    for name in ("slider", "exact"):
        attributes = page.by_id(name).attributes
        assert float(attributes["value"]) == THRESHOLD
        assert attributes["step"] == "any"
    slider = page.by_id("slider").attributes
    assert float(slider["min"]) < 1.0
    assert float(slider["max"]) > 3.5


@pytest.mark.parametrize(
    ("scored", "words", "shares"),
    [
        (USUAL, "2 of 3 defects found, 1 false alarm on 3 good images,", ("66.7%", "33.3%")),
        (USUAL[:2], "No defects to find, 0 false alarms on 2 good images,", (NO_IMAGES, "0.0%")),
        (USUAL[3:], "2 of 3 defects found, no good images to pass,", ("66.7%", NO_IMAGES)),
    ],
)
def test_the_summary_counts_what_was_found_and_what_was_not(tmp_path, scored, words, shares):
    page = report(tmp_path, scored)
    (summary,) = (one for one in page.all("p") if one.attributes.get("class") == "summary")
    assert " ".join(summary.text.split()) == f"{words} at the artifact's own threshold."
    assert (page.live("true-positive-rate"), page.live("false-positive-rate")) == shares
