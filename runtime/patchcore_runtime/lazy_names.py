"""Public names of a package that are loaded when one of them is first used (PEP 562).

A package with them is imported at once, and needs its libraries only when it does something.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(
    namespace: dict[str, Any], modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`.

    Args:
        namespace: The package's `globals()`, which receives all the names.
        modules: The module of each name.
    """

    def load(name: str) -> Any:
        if name not in modules:
            package = namespace["__name__"]
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        for public, module in modules.items():
            namespace[public] = getattr(import_module(module), public)
        return namespace[name]

    def listed() -> list[str]:
        return sorted({*namespace, *modules})

    return load, listed
