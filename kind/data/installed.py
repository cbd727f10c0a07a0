"""Files that installed packages hold, found without importing the packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def package_folder(package: str) -> Path | None:
    """Folder of an installed package, without importing it; None if it is not installed."""
    spec = importlib.util.find_spec(package)
    return None if spec is None or not spec.submodule_search_locations else Path(spec.submodule_search_locations[0])


def missing_files(package: str, parts: list[tuple[str, ...]], requirement: str) -> list[str]:
    """A line for each file (path parts below the package's folder) that an installed package should hold but lacks."""
    folder = package_folder(package)
    if folder is None:
        return [f"the Python package {requirement}: install it with `pip install {requirement}`"]
    remedy = f"install {requirement} again with `pip install --force-reinstall {requirement}`"
    return [f"{path}: {remedy}" for part in parts if not (path := folder.joinpath(*part)).is_file()]
