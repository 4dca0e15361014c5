"""Both programs read the same mutated PNG and JPEG files to the same pixels, or refuse them."""

import warnings
from random import Random

from compare_images import compare, draw_file, draw_settings
from cpp_dump import needs_dump

pytestmark = needs_dump


def test_both_programs_read_the_same_mutated_images_or_refuse_them(tmp_path):
    rng = Random(1)  # noqa: S311 inputs, no secrets
    requests = []
    for number in range(400):
        suffix, content = draw_file(rng)
        requests.append((tmp_path / f"{number}{suffix}", draw_settings(rng)))
        requests[-1][0].write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about damaged files
        read, freedom, disagreements = compare(requests)
    assert disagreements == {}
    assert 40 < read < 360
    assert freedom < 20
