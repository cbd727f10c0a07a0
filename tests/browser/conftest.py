"""A headless Chromium, and the folder that its screenshots are kept in (KIND_SCREENSHOTS, else a temporary one)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "tracking"), str(TESTS / "reporting")]  # what writes results without training


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory) -> Iterator[Path]:
    given = os.environ.get("KIND_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    print(f"\nscreenshots: {folder}")


@pytest.fixture
def browser(screenshots, lacking):
    """Needs Debian's chromium and chromium-driver; nothing is fetched from anywhere."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing:
        lacking(f"no {' and no '.join(missing)}; on Debian: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--window-size=1600,1100", "--hide-scrollbars"):  # fmt: skip
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.save_screenshot(str(screenshots / "last.png"))  # where a failed test stood
    driver.quit()
