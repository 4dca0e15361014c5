"""Score image files with libpatchcore, without any package: example.py LIBRARY ARTIFACT IMAGE..."""

import ctypes
import os
import sys


class Verdict(ctypes.Structure):
    """patchcore_verdict of patchcore.h."""

    _fields_ = [
        ("score", ctypes.c_double),
        ("threshold", ctypes.c_double),
        ("p_value", ctypes.c_double),
        ("pixel_threshold", ctypes.c_double),
        ("peak_y", ctypes.c_size_t),
        ("peak_x", ctypes.c_size_t),
        ("is_anomalous", ctypes.c_int32),
        ("not_this_part", ctypes.c_int32),
    ]


def load(path):
    """Load the library and declare the functions that this program uses."""
    library = ctypes.CDLL(path)
    handle, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("last_error", text, []),
        ("open", handle, [text, handle]),
        ("close", None, [handle]),
        ("score_bytes", handle, [handle, text, ctypes.c_size_t]),
        ("get_verdict", None, [handle, ctypes.POINTER(Verdict)]),
        ("free", None, [handle]),
    ):
        function = getattr(library, f"patchcore_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def main(library_path, artifact, *images):
    library = load(library_path)
    detector = library.patchcore_open(os.fsencode(artifact), None)
    if not detector:
        sys.exit(library.patchcore_last_error().decode(errors="replace"))
    for image in images:
        with open(image, "rb") as file:
            content = file.read()
        result = library.patchcore_score_bytes(detector, content, len(content))
        if not result:
            sys.exit(library.patchcore_last_error().decode(errors="replace"))
        verdict = Verdict()
        library.patchcore_get_verdict(result, ctypes.byref(verdict))
        library.patchcore_free(result)
        word = "anomalous" if verdict.is_anomalous else "good"
        word = "not this part" if verdict.not_this_part else word
        print(f"{image}: {word}, score {verdict.score:.6f} of {verdict.threshold:.6f}")
    library.patchcore_close(detector)


if __name__ == "__main__":
    main(*sys.argv[1:])
