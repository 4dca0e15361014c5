"""Laws of progress: plain lines at a low rate say how far a step is, and when it will end."""

import io
import sys
import threading
import time

from patchcore_build import progress
from patchcore_build.progress import Stopwatch, progress_bar, progress_line


def test_a_line_says_how_far_the_step_is_and_how_long_the_rest_takes():
    assert progress_line("coreset", "row", 0, None, 5.0) == "coreset …"
    assert progress_line("weights", "byte", 7, None, 5.0) == "weights: 7 bytes …"
    line = progress_line("features", "image", 10, 40, 5.0)
    assert line == "features: 10 of 40 images, about 15 s left …"
    assert progress_line("features", "image", 40, 40, 5.0).endswith("about 0 s left …")


def test_a_step_without_a_callback_shows_that_it_lives(monkeypatch, capfd):
    monkeypatch.setattr(progress, "FIRST_LINE_S", 0.01)
    with progress_bar("export"):
        said = ""
        while not said:
            time.sleep(0.005)
            said = capfd.readouterr().err
    assert said == "export …\n"
    assert not [one for one in threading.enumerate() if one.name == "progress"]


def test_a_quick_step_says_nothing(capfd):
    with Stopwatch().shown("quick", "row") as show:
        show(1, 2)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_at_once(monkeypatch):
    class Terminal(io.StringIO):
        """A stream that claims to be a terminal."""

        def isatty(self):
            """Say yes."""
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("whitening", "pair") as show:
        assert "whitening" in sys.stderr.getvalue()
        show(1, 4)
        time.sleep(0.15)
        show(2, 4)
        assert "2/4" in sys.stderr.getvalue()


def test_the_time_of_a_shown_stage_is_measured():
    clock = Stopwatch()
    for _ in range(2):
        with clock.shown("stage"):
            pass
    assert list(clock.seconds) == ["stage"]
