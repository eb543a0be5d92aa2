"""A headless Chromium for the tests: Debian's packages, driven by Selenium; whatever a page asks of a network is seen."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PACKAGES = ("chromium", "chromium-driver")
PROGRAMS = ("chromium", "chromedriver")
ARTEFACTS = Path(__file__).parents[2] / "test-artefacts"
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:")


class UnavailableError(Exception):
    """Why no browser can be had on this machine."""


def can_be_had() -> None:
    """Install the packages where needed. Raises `UnavailableError` with the reason."""
    if all(map(shutil.which, PROGRAMS)):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UnavailableError(f"{' and '.join(PROGRAMS)} are not here, and without apt-get as root they cannot be installed")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *PACKAGES]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            subprocess.run(["apt-get", "update", "-qq"], env=environment, capture_output=True, check=False, timeout=300)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"apt-get: {error}") from None
    if done.returncode or not all(map(shutil.which, PROGRAMS)):
        raise UnavailableError(f"apt-get cannot install {' '.join(PACKAGES)}: {done.stderr.strip()[-200:]}")


class Browser:
    """A browser without a network; `driver` is Selenium's."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path) -> None:
        """Open a file from the disk; what came before is forgotten."""
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.resolve().as_uri())

    def errors(self) -> list[str]:
        """What the console has said since, warnings too."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self, or_stopped: bool = True) -> list[str]:
        """Addresses asked for since then that are not on this disk; also those that the page's policy has stopped, if `or_stopped`."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = {m["params"]["requestId"]: m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
        stopped = {
            m["params"]["requestId"] for m in messages if m["method"] == "Network.loadingFailed" and m["params"].get("blockedReason")
        }
        return [url for request, url in asked.items() if not url.startswith(LOCAL) and (or_stopped or request not in stopped)]

    def do(self, script: str, *arguments: Any) -> Any:
        """The value of a script's `return`."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, script: str, seconds: float = 20) -> Any:
        """Until the script returns something true; that."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda driver: driver.execute_script(script))

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
    arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"]
    isolated = [
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost",
        f"--user-data-dir={profile}",
        f"--window-size={width},{height}",
    ]
    for argument in (*arguments, *isolated):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()
