"""A headless Chromium: Debian's packages, driven by Selenium, which records all requests."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import apt

PACKAGES = ("chromium", "chromium-driver")
PROGRAMS = ("chromium", "chromedriver")
ARTEFACTS = Path(__file__).parents[2] / "test-artefacts"
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:")


def ensure_installed() -> None:
    """Install the packages where needed. Raises `apt.UnavailableError` with the reason."""
    if not all(map(shutil.which, PROGRAMS)):
        apt.install(*PACKAGES)


class Browser:
    """A browser without a network; `driver` is Selenium's."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        """Open a file from the disk; earlier log entries are dropped."""
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.resolve().as_uri())

    def errors(self) -> list[str]:
        """What the console has reported since then, warnings too."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self, with_blocked: bool = True) -> list[str]:
        """Addresses requested since then that are not on this disk.

        `with_blocked` includes those that the page's policy has blocked.
        """
        sent, blocked = {}, set()
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            params = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                sent[params["requestId"]] = params["request"]["url"]
            elif message["method"] == "Network.loadingFailed" and params.get("blockedReason"):
                blocked.add(params["requestId"])
        shown = {request: url for request, url in sent.items() if not url.startswith(LOCAL)}
        return [url for request, url in shown.items() if with_blocked or request not in blocked]

    def do(self, script: str, *arguments: Any) -> Any:
        """The value of a script's `return`."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, script: str, seconds: float = 20) -> Any:
        """The first true value that the script returns."""
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, seconds, 0.05)
        return wait.until(lambda driver: driver.execute_script(script))

    def picture(self, name: str) -> Path:
        """A screenshot of the whole page among the tests' artefacts."""
        ARTEFACTS.mkdir(exist_ok=True)
        height = min(6000, self.do("return document.documentElement.scrollHeight"))
        size = self.driver.get_window_size()
        self.driver.set_window_size(size["width"], max(size["height"], height + 150))
        path = ARTEFACTS / f"{name}.png"
        self.driver.save_screenshot(str(path))
        self.driver.set_window_size(size["width"], size["height"])
        return path


@contextmanager
def browser(profile: Path, width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """A browser with an empty profile, whose names resolve to nothing."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost",
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
