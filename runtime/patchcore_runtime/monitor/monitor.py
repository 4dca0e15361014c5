"""Watch whether a line's images still match the detector's training images: Results -> verdicts.

The score and the image statistics of each Result go to control charts (`control_chart`), and
`causes` names the cause of an alarm. The artifact's calibration defines the normal range.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchcore_runtime.errors import MonitorError
from patchcore_runtime.image.statistics import Reference, compare
from patchcore_runtime.manifest.manifest import Manifest
from patchcore_runtime.manifest.monitoring import LEVELS
from patchcore_runtime.monitor.causes import Candidate, Evidence, find_causes
from patchcore_runtime.monitor.control_chart import Chart, Normal, limits_for
from patchcore_runtime.monitor.state import ChartState, MonitorState, read_state, write_state
from patchcore_runtime.result import Result

FEWEST_IMAGES = 30  # smallest calibration that defines a normal range
LARGEST_RATE = 0.05
DEFAULT_RATE = 0.001
_RECENT = 10  # values that the evidence summarises


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The state of the line after an image."""

    images: int  # number of images so far
    candidates: tuple[Candidate, ...]  # the best supported first; empty: nothing has changed
    began: bool  # whether the alarm began with this image

    @property
    def alarm(self) -> bool:
        """Return whether anything has changed."""
        return bool(self.candidates)


class Monitor:
    """The charts of one line; not thread-safe, and the order of images matters."""

    def __init__(
        self, manifest: Manifest, *, state: Path | None = None, rate: float = DEFAULT_RATE
    ) -> None:
        """Begin, or continue from a state file.

        Args:
            manifest: Manifest of the artifact that scores the images.
            state: State file; it is read now, and written after each image.
            rate: False alarms per good image that all tests together may raise.

        Raises:
            MonitorError: the rate is out of range, the artifact was made of too few images, or
                the file is damaged or belongs to another artifact.
        """
        if not 0 < rate <= LARGEST_RATE:
            raise MonitorError(
                f"false-alarm rate: expected above 0 and at most {LARGEST_RATE:g} per image, "
                f"got {rate:g}"
            )
        normal = _normal(manifest)
        count = min(one.count for one in normal.values())
        if count < FEWEST_IMAGES:
            raise MonitorError(
                f"monitor: expected an artifact of at least {FEWEST_IMAGES} good images, got "
                f"{count}; fit the artifact with more images"
            )
        self._reference = Reference.of(manifest.monitoring, manifest.layout.names)
        self._path = state
        # Another score threshold at load changes no statistic.
        told = [manifest.training.digest, manifest.calibration.image_scores.values]
        if not manifest.calibration.images:  # imported artifacts have neither images nor scores
            told.append(manifest.monitoring.thumbnail)
        self._artifact = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        self._images = 0
        self._alarm = False
        self._charts = {
            # Held-out scores come from smaller banks than the artifact's and are larger for it, so
            # only unusually high scores count as a change.
            name: Chart(
                normal=one,
                limits=limits_for(rate / len(normal), one.count),
                upward=name == "score",
                window=[],
            )
            for name, one in normal.items()
        }
        kept = read_state(state, self._artifact) if state is not None else None
        if kept is not None:
            self._take_up(kept)

    def update(self, result: Result) -> Verdict:
        """Add the next image, and write the state file: `judge` and `save` in one.

        Raises:
            MonitorError: the result was not measured; or the state cannot be written, in which
                case the image still counts.
        """
        verdict = self.judge(result)
        self.save()
        return verdict

    def save(self) -> None:
        """Write the state file, if there is one.

        Raises:
            MonitorError: the file cannot be written; an older one is unchanged.
        """
        if self._path is not None:
            write_state(self._path, self._state())

    def judge(self, result: Result) -> Verdict:
        """Add the next image, and leave the state file as it is.

        Args:
            result: Result of `Detector.predict(..., measure=True)`.

        Raises:
            MonitorError: the result was not measured.
        """
        if result.measured is None:
            raise MonitorError(
                "monitor: expected a Result with measurements; predict with measure=True"
            )
        self._images += 1
        values = {"score": result.score, **compare(result.measured, self._reference)}
        for name, chart in self._charts.items():
            chart.add(values[name], number=self._images)
        candidates = find_causes(self._evidence())
        began = bool(candidates) and not self._alarm
        self._alarm = bool(candidates)
        return Verdict(images=self._images, candidates=candidates, began=began)

    def _evidence(self) -> list[Evidence]:
        found = []
        for name, chart in self._charts.items():
            tests = {"ewma": chart.far, "kolmogorov-smirnov": chart.unlike}
            raised = [test for test, alarm in tests.items() if alarm]
            if raised:
                found.append(_describe(name, chart, " and ".join(raised)))
        return found

    def _state(self) -> MonitorState:
        charts = tuple(
            ChartState(
                statistic=name,
                average=chart.average,
                far=int(chart.far),
                unlike=int(chart.unlike),
                window=tuple(chart.window),
            )
            for name, chart in self._charts.items()
        )
        return MonitorState(artifact=self._artifact, images=self._images, charts=charts)

    def _take_up(self, state: MonitorState) -> None:
        named = {chart.statistic: chart for chart in state.charts}
        if named.keys() != self._charts.keys():
            raise MonitorError(
                f"{self._path}: expected charts {sorted(self._charts)}, got {sorted(named)}; "
                "remove it to begin again"
            )
        self._images = state.images
        for name, chart in self._charts.items():
            kept = named[name]
            chart.average, chart.window = kept.average, list(kept.window)
            chart.far, chart.unlike = bool(kept.far), bool(kept.unlike)
            self._alarm |= chart.far or chart.unlike


def _normal(manifest: Manifest) -> dict[str, Normal]:
    """Return the values of each statistic over good images; those of the score are held out.

    The score is left out if no held-out scores are known.
    """
    calibration, monitoring = manifest.calibration, manifest.monitoring
    normal: dict[str, Normal] = {}
    if calibration.images:
        ranks = [rank - 1.0 for rank in calibration.ranks]
        normal["score"] = Normal(calibration.image_scores.values, ranks, calibration.images)
    spread = np.linspace(0, monitoring.images - 1, LEVELS).tolist()
    for name, values in monitoring.quantiles.named(manifest.layout.names).items():
        normal[name] = Normal(values, spread, monitoring.images)
    return normal


def _describe(name: str, chart: Chart, tests: str) -> Evidence:
    normal = chart.normal
    places = np.linspace(0, normal.count - 1, 101)[[5, 25, 50, 75, 95]]
    low, lower, middle, upper, high = np.interp(places, normal.ranks, normal.values).tolist()
    recent = float(np.mean(chart.window[-_RECENT:]))
    # A normal distribution's interquartile range is 1.349 standard deviations.
    deviation = max((upper - lower) / 1.349, 1e-9 * max(1.0, abs(middle)))
    return Evidence(
        statistic=name,
        test=tests,
        recent=recent,
        normal=(low, middle, high),
        deviations=(recent - middle) / deviation,
    )
