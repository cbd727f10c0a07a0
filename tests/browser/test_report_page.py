"""The report's page in a browser, as wide as a phone and as a desk."""

from __future__ import annotations

import pytest
import synthetic_experiment as made

from kind.reporting.report import write_report

pytestmark = pytest.mark.slow

WIDTHS = {"phone": (390, 844), "desk": (1440, 900)}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = made.write_experiment(tmp_path_factory.mktemp("results") / "smoke")
    write_report("smoke", made.params(), folder, folder / "report", made.SEEDS, made.TASKS, made.METHODS, made.COMMAND)
    return folder / "report" / "index.html"


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_its_pictures_are_there(page, browser, screenshots, width):
    from selenium.webdriver.support.ui import WebDriverWait

    across, down = WIDTHS[width]
    size = {"width": across, "height": down, "deviceScaleFactor": 1, "mobile": width == "phone"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    WebDriverWait(browser, 60).until(lambda view: view.execute_script("return document.readyState") == "complete")
    assert browser.execute_script("return window.innerWidth") == across
    assert browser.execute_script("return document.documentElement.scrollWidth") <= across, "scrolls sideways"
    images = browser.execute_script(
        "return [...document.images].map(image => [image.alt, image.complete && image.naturalWidth > 0])"
    )
    plots = browser.execute_script(
        "return [...document.querySelectorAll('.plots svg')].map(plot => [plot.getAttribute('aria-label'),"
        " plot.getBoundingClientRect().width > 250 && plot.querySelectorAll('text').length > 3])"
    )
    for shown in (images, plots):
        assert len(shown) >= 5 and [alt for alt, loaded in shown if not loaded] == []
        assert all(alt for alt, _ in shown), "every picture says what it shows"
    wide = browser.execute_script(
        "return [...document.querySelectorAll('img, .plots svg')].filter(image =>"
        " image.getBoundingClientRect().right > innerWidth + 1 && !image.closest('[class*=scroll], .wide, table'))"
        ".map(image => image.alt || image.getAttribute('aria-label'))"
    )
    assert wide == [], "pictures that are cut off"
    height = browser.execute_script("return document.documentElement.scrollHeight")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size | {"height": min(height, 6000)})
    assert browser.save_screenshot(str(screenshots / f"report_{width}.png"))


def test_plots_are_in_the_colours_of_the_page_light_and_dark(page, browser, screenshots):
    browser.get(page.as_uri())
    found = {}
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        found[scheme] = browser.execute_script(
            "const plot = document.querySelector('.plots svg'); plot.scrollIntoView();"
            "const fills = [...plot.querySelectorAll('text')].map(text => getComputedStyle(text).fill);"
            "return [fills, getComputedStyle(document.body).color, getComputedStyle(plot.parentNode).backgroundColor]"
        )
        assert browser.save_screenshot(str(screenshots / f"report_plots_{scheme}.png"))
    for fills, ink, sheet in found.values():
        assert ink in fills and sheet not in fills
    assert not set(found["light"][0]) & set(found["dark"][0]), "a text would keep its colour on another ground"
