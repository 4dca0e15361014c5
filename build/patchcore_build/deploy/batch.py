"""The sizes of a batch that an export may fix or allow."""

from patchcore_build.errors import require

_MOST_BATCH = 1024


def check_batch(batch: int) -> None:
    """Refuse a batch that no device takes, before it is tried in memory.

    Raises:
        SettingError: it is out of range.
    """
    require(1 <= batch <= _MOST_BATCH, "--batch", f"1 to {_MOST_BATCH}", batch)
