"""KIND: decomposable diffusion transformers, their rivals, and the benchmark that compares them.

`kind.load`, `kind.combine` and `kind.KindModel` take models apart in Python; see `kind.api`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kind.api import KindModel, combine, load

__all__ = ["KindModel", "combine", "load"]


def __getattr__(name: str) -> Any:
    """The API is imported when it is asked for: `import kind` alone must not cost an import of torch."""
    if name in __all__:
        from kind import api

        return getattr(api, name)
    raise AttributeError(f"module 'kind' has no attribute {name!r}")
