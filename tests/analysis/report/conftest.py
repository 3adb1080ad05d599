"""A browser for the report, and what holds for every page that it opens."""

from __future__ import annotations

import base64
import json
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def wait(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a page has come to something."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not come to it"
        time.sleep(0.05)


def held(html: str, name: str) -> str:
    """A text that a page holds deflated."""
    found = re.search(rf'<script type="text/plain" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return zlib.decompress(base64.b64decode(found[1])).decode()


def whole(html: str) -> str:
    """A page with the texts that it holds deflated."""
    return html + "".join(held(html, name) for name in ("figures", "data"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window and without WebGL."""
    browser, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no Chromium here (Debian: apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1250,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield running
    running.quit()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[[Path], Any]]:
    """Open a report and wait until all is drawn; in the end no error may stand in its console, and no request may have left."""

    def open_one(page: Path) -> Any:
        if browser.current_url.partition("#")[0] != page.as_uri():  # drawing everything takes seconds: tests share a page
            browser.get_log("performance")
            browser.get(page.as_uri())
        wait(lambda: browser.execute_script("return document.documentElement.dataset.drawn === 'all' && explorer !== null"))
        return browser

    yield open_one
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    asked = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    assert browser.execute_script("return window.pwned") is None
