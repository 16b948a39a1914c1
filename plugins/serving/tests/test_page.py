"""The page at / in a real browser: a picture dropped on it is decided on, at the width of a desk and of a phone."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import TOKEN, Served, Site, png

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None or DRIVER is None, reason="chromium and chromium-driver are not installed"),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run", "--hide-scrollbars"),
)
_DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (one) => one.charCodeAt(0));
const held = new DataTransfer();
held.items.add(new File([bytes], "street.png", { type: "image/png" }));
document.getElementById("drop").dispatchEvent(
  new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true }));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()


def wait(browser: Any, true: Any) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, 60).until(lambda _: true())


def text(browser: Any, name: str) -> str:
    """What is seen of an element; nothing where it is hidden."""
    return str(browser.find_element("id", name).text)


def opened(browser: Any, server: Served, *, width: int = 1000, height: int = 900) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get_log("browser")
    browser.get(server.url)
    wait(browser, lambda: browser.execute_script("return document.fonts.status") == "loaded")


def drop(browser: Any, content: bytes) -> None:
    browser.execute_script(_DROP, base64.b64encode(content).decode())


def complaints(browser: Any) -> list[str]:
    """What the browser has to say against the page; of refusals it says so by itself."""
    return [entry["message"] for entry in browser.get_log("browser") if "favicon" not in entry["message"]]


def test_a_picture_dropped_on_it_is_decided_on(browser: Any, served: Served, tmp_path: Path) -> None:
    opened(browser, served)
    wait(browser, lambda: "careful" in text(browser, "policy"))
    drop(browser, png(6, (200, 300)))
    wait(browser, lambda: text(browser, "label") == "roadwork")
    assert (text(browser, "set"), text(browser, "by")) == ("roadwork", "careful")
    assert "cut 0.0" in text(browser, "reason")
    assert float(text(browser, "score")) > 0.9
    assert browser.execute_script(
        "const p = document.getElementById('picture'); return [p.naturalWidth, p.naturalHeight]"
    ) == [
        300,
        200,
    ]
    assert complaints(browser) == []
    _keep(browser, tmp_path, "desk")


def test_an_abstention_is_said_and_must_answer_ends_it(browser: Any, served: Served) -> None:
    opened(browser, served)
    drop(browser, png(0.3))
    wait(browser, lambda: text(browser, "label") == "no decision")
    assert text(browser, "set") == "no_roadwork, roadwork"
    browser.find_element("id", "must").click()
    wait(browser, lambda: text(browser, "label") == "roadwork")
    assert "must answer" in text(browser, "reason")


def test_who_decides_can_be_chosen(browser: Any, served: Served) -> None:
    opened(browser, served)
    wait(browser, lambda: "threshold" in text(browser, "policy"))
    drop(browser, png(0.3))
    wait(browser, lambda: text(browser, "by") == "careful")
    browser.find_element("css selector", "#policy option[value=threshold]").click()
    wait(browser, lambda: text(browser, "by") == "threshold")


def test_a_file_that_is_no_picture(browser: Any, served: Served, tmp_path: Path) -> None:
    opened(browser, served)
    drop(browser, png(6))
    wait(browser, lambda: text(browser, "label") == "roadwork")
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    browser.find_element("id", "file").send_keys(str(tmp_path / "broken.png"))
    wait(browser, lambda: "not a picture" in text(browser, "problem"))
    assert not browser.find_element("id", "answer").is_displayed()
    assert not browser.find_element("id", "picture").is_displayed()
    _keep(browser, tmp_path, "broken")
    drop(browser, png(-6))
    wait(browser, lambda: text(browser, "label") == "no_roadwork")
    assert text(browser, "problem") == ""


def test_at_the_width_of_a_phone_nothing_is_cut_off(browser: Any, served: Served, tmp_path: Path) -> None:
    opened(browser, served, width=360, height=740)
    drop(browser, png(0.3, (400, 900)))
    wait(browser, lambda: text(browser, "label") == "no decision")
    wide = "return document.documentElement.scrollWidth"
    assert browser.execute_script(wide) <= 360
    for name in ("drop", "picture", "reason", "bundle", "must"):
        box = browser.execute_script(f"return document.getElementById('{name}').getBoundingClientRect().toJSON()")
        assert box["left"] >= 0
        assert box["right"] <= 360
    _keep(browser, tmp_path, "phone")


def test_a_label_is_given_where_feedback_is_kept(browser: Any, site: Site, bundle: Path, tmp_path: Path) -> None:
    words = ("--feedback", str(tmp_path / "f.sqlite"), "--verify", "load")
    with site.serve(bundle, *words, ROADWORK_SERVE_TOKEN=TOKEN) as server:
        opened(browser, server)
        wait(browser, lambda: "token" in text(browser, "problem"))
        browser.find_element("id", "token").send_keys(f"{TOKEN}\t")
        wait(browser, lambda: "careful" in text(browser, "policy"))
        drop(browser, png(6))
        wait(browser, lambda: text(browser, "label") == "roadwork")
        browser.find_element("css selector", "#truth button:first-of-type").click()
        wait(browser, lambda: text(browser, "told") == "Kept: no_roadwork.")
        _keep(browser, tmp_path, "feedback")
    from roadwork_core.feedback import FeedbackStore

    with FeedbackStore(tmp_path / "f.sqlite") as store:
        assert [one.truth for one in store.read()] == ["no_roadwork"]


def _keep(browser: Any, folder: Path, name: str) -> None:
    """A screenshot, for those who look when a test fails."""
    browser.save_screenshot(str(folder / f"{name}.png"))
