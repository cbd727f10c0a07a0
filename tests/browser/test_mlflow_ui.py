"""What a person sees in the MLflow UI: the experiment, a run with its sample grid, runs side by side in charts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import yaml
from tiny_results import ROOT, TinyResults

pytestmark = pytest.mark.slow

FILTER = "tags.task = 'novel' and tags.stage = 'evaluate' and tags.superseded = 'false'"
RUN = "novel / kind / seed 0"
SECONDS = 120  # the server starts in 10 s on a free machine


@pytest.fixture
def ui(tmp_path):
    """Addresses of `mlflow ui` on a store that `kind track` made: all experiments, and the link that track gives."""
    content = yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text())
    content["seeds"] = [0, 1]
    content["methods"] = {"kind": {}, "full": {}, "lora": {"rank": 16}, "lora-r4": {"method": "lora", "rank": 4}}
    content["ablations"] = {"lora-rank": {"axis": "rank", "entries": ["lora-r4", "lora"]}}
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "smoke.yaml").write_text(yaml.safe_dump(content))
    TinyResults(tmp_path, tmp_path / "params" / "smoke.yaml").write_all()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "kind", "track", "--experiment", "smoke"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    said = subprocess.check_output([*command, "--link"], cwd=tmp_path, env=environment, text=True)
    page = said.strip().removeprefix("smoke: http://127.0.0.1:5000")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    store = ["--backend-store-uri", "sqlite:///mlflow.db"]
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "mlflow", "ui", *store, *place]
    with open(tmp_path / "ui.log", "w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for_server(f"{address}/health", server, tmp_path / "ui.log")
        yield f"{address}/#/experiments?workflowType=machine_learning", address + page
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def wait_for_server(address, server, log):
    deadline = time.monotonic() + SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with opener.open(address, timeout=5):
                return
        except OSError:
            os.sched_yield()
    raise AssertionError(f"no answer in {SECONDS} s: {log.read_text()}")


def test_a_person_finds_compares_and_opens_runs(ui, browser, screenshots):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.expected_conditions import element_to_be_clickable
    from selenium.webdriver.support.ui import WebDriverWait

    wait = WebDriverWait(browser, 60)

    def find(by, what):
        return wait.until(element_to_be_clickable((by, what)))

    def shot(name):
        assert browser.save_screenshot(str(screenshots / f"mlflow_{name}.png"))

    def visit(address):
        browser.get("about:blank")  # the UI goes astray when its address is changed from a shared view to another
        browser.get(address)

    # the experiment, in the list of experiments
    experiments, link = ui
    visit(experiments)
    find(By.CSS_SELECTOR, "[data-component-id='mlflow.assistant.chat_panel.close']").click()
    find(By.LINK_TEXT, "smoke").click()
    wait.until(lambda page: page.current_url.startswith(link.partition("/runs")[0]))

    # the rows of the report with its metrics
    visit(link)
    for metric in ("fd_digits_500_vs_200", "recall_digits_500_vs_200"):
        find(By.XPATH, f"//*[@role='columnheader'][contains(., '{metric}')]")
    wait.until(lambda page: "16 matching runs" in page.find_element(By.TAG_NAME, "body").text)
    shot("table")

    # all runs, then those of a filter of docs/mlflow.md; sorted by time, they stand under their ablation
    find(By.XPATH, "//button[contains(., 'Exit shared view')]").click()
    find(By.LINK_TEXT, "report")
    find(By.CSS_SELECTOR, "input[placeholder^='metrics.rmse']").send_keys(FILTER, Keys.ENTER)
    wait.until(lambda page: "9 matching runs" in page.find_element(By.TAG_NAME, "body").text)  # 8 and their parent
    find(By.XPATH, "//*[@role='gridcell'][.//a[.='novel / lora-rank']]//button").click()  # an ablation opens
    find(By.LINK_TEXT, "novel / lora-r4 / seed 0")
    assert "Handwritten digits" in browser.find_element(By.TAG_NAME, "body").text, "the experiment's description"
    shot("runs")

    # side by side in charts: metrics as bars, training as curves, an ablation over its axis
    listed = browser.current_url
    visit(listed + "&compareRunsMode=CHART")
    for metric, form in (("^fd_digits_500", ".bars"), ("train/loss", ".lines"), ("by_rank/fd", ".lines")):
        search = find(By.CSS_SELECTOR, "input[placeholder='Search metric charts']")
        search.send_keys(Keys.CONTROL, "a")
        search.send_keys(metric)
        title = metric.removeprefix("^")
        wait.until(lambda page, title=title: title in page.find_element(By.TAG_NAME, "body").text)
        wait.until(lambda page: len(page.find_elements(By.CSS_SELECTOR, ".js-plotly-plot")) == 1)
        wait.until(lambda page, form=form: page.find_elements(By.CSS_SELECTOR, f".js-plotly-plot {form} path"))
        shot(f"chart_{title.replace('/', '_')}")

    # one run: params, metrics and the sample grid
    visit(listed)
    find(By.LINK_TEXT, RUN).click()
    wait.until(lambda page: page.find_elements(By.XPATH, f"//h1[contains(., '{RUN}')] | //h2[contains(., '{RUN}')]"))
    wait.until(lambda page: "protocol_hash" in page.find_element(By.TAG_NAME, "body").text)
    shot("run")
    browser.get(browser.current_url.split("?")[0] + "/artifacts/samples.png")
    wait.until(lambda page: any(
        page.execute_script("return arguments[0].naturalWidth", image) > 200
        for image in page.find_elements(By.TAG_NAME, "img")
    ))  # fmt: skip
    shot("samples")
