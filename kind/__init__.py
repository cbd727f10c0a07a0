"""KIND: decomposable diffusion transformers, their rivals, and the benchmark that compares them.

`kind.load`, `kind.combine` and `kind.KindModel` take models apart in Python; see `kind.api`.  What a person can mend is
a `kind.UserError`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kind.api import KindModel, combine, load
    from kind.errors import UserError

__all__ = ["KindModel", "UserError", "combine", "load"]


def __getattr__(name: str) -> Any:
    """The API is imported when it is asked for: `import kind` alone must not cost an import of torch."""
    if name == "UserError":
        from kind.errors import UserError

        return UserError
    if name in __all__:
        from kind import api

        return getattr(api, name)
    raise AttributeError(f"module 'kind' has no attribute {name!r}")
