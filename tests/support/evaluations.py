"""Synthetic evaluations with chosen scores, and a parser of the report's page."""

import base64
import dataclasses
import io
import json
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
from PIL import Image

from patchcore_build.data.dataset import TestImage as DatasetImage
from patchcore_build.evaluation.evaluate import Evaluation, ScoredImage
from patchcore_build.evaluation.figures import _reasons
from patchcore_build.evaluation.metrics import BestF1, Curve, auroc, best_f1, confusion, rates
from patchcore_build.report.gallery import Gallery
from patchcore_build.report.report import write_report
from patchcore_runtime.explain.heatmap import HeatmapScale
from patchcore_runtime.files.names import shown
from patchcore_runtime.image.placement import Placement
from patchcore_runtime.manifest.manifest import Preprocessing
from patchcore_runtime.result import Result

THRESHOLD = 2.0
SCALE = HeatmapScale(low=1.0, threshold=2.0, high=4.0)
SIDE = 64  # of the input
FILES = ["report.html", "report.json", "sheet.png"]
VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}
MANIFEST = SimpleNamespace(
    training=SimpleNamespace(category="nuts & bolts"),
    config={"recipe": "full-frame"},
    features=SimpleNamespace(backbone="scattering"),
    preprocess=SimpleNamespace(height=SIDE, width=SIDE),
    memory_bank=SimpleNamespace(rows=1234),
    calibration=SimpleNamespace(image_threshold=THRESHOLD, pixel_threshold=SCALE.threshold),
)
USUAL = (
    ("good/0.png", 1.0),
    ("good/1.png", 1.5),
    ("good/2.png", 2.5),  # a false alarm
    ("crack/0.png", 3.5),
    ("crack/1.png", 1.25),  # missed, farther than the false alarm
    ("stain/0.png", 2.125),
)
CURVE = Curve(
    protocol="all images",
    false_positive_rates=(0.0, 0.0, 0.1, 0.4, 1.0),
    rates=(0.0, 0.5, 0.8, 0.9, 1.0),
)


@dataclasses.dataclass(eq=False)
class Element:
    """An element of a page, with all text inside it."""

    tag: str
    attributes: dict[str, str]
    parent: "Element | None"
    text: str = ""

    def above(self):
        """Return the elements around this one, the nearest first."""
        while self.parent is not None:
            yield self.parent
            self = self.parent  # noqa: PLW0642 - a walk upwards

    def is_shown(self):
        """Return whether neither this element nor one around it is hidden."""
        return not any("hidden" in one.attributes for one in (self, *self.above()))


class Page(HTMLParser):
    """Elements, text and figures of a page; tags that do not close in order are refused."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words, self.figures = [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    @classmethod
    def read(cls, path):
        """Parse the page of a file."""
        return cls(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Store the element, and expect its end tag unless it has none."""
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag}: an attribute twice"
        attributes = {name: value or "" for name, value in attrs}
        element = Element(tag, attributes, self.open[-1] if self.open else None)
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        """Store an element that closes itself, which occurs only in SVG."""
        assert any(one.tag == "svg" for one in self.open), f"{tag} closes itself"
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        """Close the innermost open element and no other."""
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        """Store text, and the figures by their position in report.json."""
        for element in self.open:
            element.text += data
        inner = self.open[-1] if self.open else None
        if inner is None or inner.tag not in {"script", "style"}:
            self.words.append(data)
        if inner is not None and inner.tag == "data" and "data-field" in inner.attributes:
            self.figures.setdefault(inner.attributes["data-field"], []).append(
                (inner.attributes["value"], data)
            )

    def all(self, tag, **attributes):
        """Return elements of that tag with these attributes; `_` is written for `-`."""
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [
            one
            for one in self.elements
            if one.tag == tag and wanted.items() <= one.attributes.items()
        ]

    def by_id(self, name):
        """Return the only element with that id."""
        (element,) = [one for one in self.elements if one.attributes.get("id") == name]
        return element

    def live(self, name):
        """Return the text of all elements that the script updates for that name; it must be one."""
        (text,) = {one.text for one in self.elements if one.attributes.get("data-live") == name}
        return text

    def cards(self):
        """Return (name, outcome) of each image that is shown, in order."""
        return [
            (
                next(one.text for one in self.elements if one.tag == "h3" and one.parent is card),
                next(
                    one.text
                    for one in self.elements
                    if "outcome" in one.attributes.get("class", "").split() and card in one.above()
                ),
            )
            for card in self.elements
            if "data-number" in card.attributes and card.is_shown()
        ]

    def data(self):
        """Return the data that the script reads."""
        return json.loads(self.by_id("report-data").text)


def save_noise(path, size, seed=0):
    """Write an image of noise; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG")


def make_result(score, *, size=(80, 60), peak=3.0):
    """Make a map that is normal except for a square in the middle, of the whole image."""
    values = np.full((SIDE, SIDE), 0.5, np.float32)
    values[24:40, 24:40] = peak
    return Result(
        score=score,
        p_value=0.5,
        threshold=THRESHOLD,
        pixel_threshold=SCALE.threshold,
        anomaly_map=values,
        patch_distances=np.zeros((8, 8), np.float32),
        nearest_rows=np.zeros((8, 8), np.int64),
        placement=Placement(
            photo_height=size[1],
            photo_width=size[0],
            resized_height=SIDE,
            resized_width=SIDE,
            top=0,
            left=0,
        ),
        heatmap_scale=SCALE,
    )


def make_gallery():
    """Make a new gallery."""
    settings = Preprocessing(
        resize="stretch", resize_height=32, resize_width=32, filter="bilinear", height=32, width=32
    )
    manifest = SimpleNamespace(preprocess=settings)
    return Gallery(SimpleNamespace(heatmap_scale=SCALE, manifest=manifest))


def make_evaluation(scored, *, kinds=None, **changes):
    """Make an evaluation of (name, score); kinds default to the name's folder."""
    kinds = {name: name.split("/")[0] for name, _ in scored} | (kinds or {})
    good = np.array([score for name, score in scored if kinds[name] == "good"])
    defect = np.array([score for name, score in scored if kinds[name] != "good"])
    both = len(good) > 0 and len(defect) > 0
    at_threshold = confusion(good, defect, THRESHOLD)
    figures = {
        "category": "nuts & bolts",
        "images": tuple(
            ScoredImage(
                name=shown(name),
                defect=kinds[name],
                is_anomalous=kinds[name] != "good",
                score=score,
                map_maximum=score,
                is_flagged=score > THRESHOLD,
            )
            for name, score in scored
        ),
        "image_auroc": auroc(good, defect) if both else None,
        "pixel_auroc": 0.987654321,
        "image_best_f1": best_f1(good, defect) if both else None,
        "image_confusion": at_threshold,
        "pixel_threshold": SCALE.threshold,
        "pixel_share_flagged_good": 1 / 3,
        "problems": (),
        "image_average_precision": 0.97 if both else None,
        "image_rates": rates(at_threshold),
        "image_roc": CURVE if both else None,
        "pixel_average_precision": 0.61,
        "pixel_best_f1": BestF1(f1=0.58, threshold=2.5),
        "pixel_rates": rates(confusion(np.array([1.0, 3.0]), np.array([1.5, 4.0]), 2.0)),
        "aupro_030_all_images": 0.93,
        "aupro_005_all_images": 0.71,
        "aupro_030_anomalous_images_only": 0.92,
        "aupro_005_anomalous_images_only": 0.69,
        "pixel_pro": (CURVE, dataclasses.replace(CURVE, protocol="anomalous images only")),
    }
    found = Evaluation(**figures | changes)
    return dataclasses.replace(found, reasons=_reasons(found))


def run(root, scored=USUAL, *, masks=True, size=(80, 60), kinds=None, **changes):
    """Return (evaluation, gallery) of drawn images with the given scores."""
    evaluation = make_evaluation(scored, kinds=kinds, **changes)
    gallery = make_gallery()
    for seed, (image, (name, _)) in enumerate(zip(evaluation.images, scored, strict=True)):
        path = root / "test" / name
        save_noise(path, size, seed)
        mask = np.zeros((SIDE, SIDE), np.bool_)
        mask[20:44, 20:44] = image.is_anomalous
        listed = DatasetImage(path=path, defect=image.defect, mask=None)
        gallery.visit(listed, make_result(image.score, size=size), mask if masks else None)
    return evaluation, gallery


def report(folder, scored=USUAL, **how):
    """Write a report into the folder and return its page."""
    evaluation, gallery = run(folder / "dataset", scored, **how)
    write_report(folder / "report", evaluation, gallery, MANIFEST)
    return Page.read(folder / "report" / "report.html")


def read_json(folder):
    """Load the report.json that `report` wrote."""
    return json.loads((folder / "report" / "report.json").read_text(encoding="utf-8"))


def decode_jpeg(uri):
    """Decode the image of a data URI."""
    kind, encoded = uri.split(",", 1)
    assert kind == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))
    image.load()
    return image


def verdict(is_anomalous, score, threshold):
    """Compute `verdictOf` of report.js."""
    is_flagged = score > threshold
    if is_anomalous:
        return "found" if is_flagged else "missed"
    return "false alarm" if is_flagged else "passed"


def counted(scored, threshold):
    """Count found, missed, false alarms and passed at a threshold, by the evaluation's rule."""
    good = np.array([score for name, score in scored if name.startswith("good/")])
    defect = np.array([score for name, score in scored if not name.startswith("good/")])
    counts = confusion(good, defect, threshold)
    return (
        counts.true_positives, counts.false_negatives, counts.false_positives,
        counts.true_negatives,
    )  # fmt: skip
