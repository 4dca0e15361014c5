"""Score images on whatever processor runs this: score_as_json.py ARTIFACT... -- IMAGE...

Prints a JSON list with, for each artifact and image, the SHA-256 of the network's input, and the
score.
"""

import hashlib
import json
import sys

from patchcore_runtime import Detector
from patchcore_runtime.image.decode import read_image
from patchcore_runtime.image.preprocess import fit_to_input

split = sys.argv.index("--")
rows = []
for artifact in sys.argv[1:split]:
    detector = Detector.load(artifact, threads=1)
    for image in sys.argv[split + 1 :]:
        pixels, placement = fit_to_input(read_image(image), detector.manifest.preprocess)
        result = detector.predict_input(pixels, placement)
        rows.append([hashlib.sha256(pixels.tobytes()).hexdigest(), result.score])
print(json.dumps(rows))
