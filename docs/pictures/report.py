"""Picture of a page that ``fastconv report --html PAGE`` wrote: ``docs/pictures/report.py PAGE``.

Needs Chromium and playwright, as tests/browser.py does.
"""

from __future__ import annotations

import pathlib
import sys

from playwright.sync_api import sync_playwright

HERE = pathlib.Path(__file__).parent

WIDTH, HEIGHT = 1280, 2150


def main() -> None:
    sys.path.insert(0, str(HERE.parent.parent / "tests"))
    from browser import FLAGS, executable

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(pathlib.Path(sys.argv[1]).absolute().as_uri(), wait_until="networkidle")
        page.locator("[data-key=regret]").click()
        page.mouse.move(0, 0)
        page.screenshot(path=HERE / "report.png")
        browser.close()


if __name__ == "__main__":
    main()
