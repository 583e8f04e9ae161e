"""Pictures of the dashboard as ``make dashboard`` publishes it: run it after that.

``python docs/pictures/dashboard.py`` needs Chromium and playwright, as tests/browser.py does.
"""

from __future__ import annotations

import pathlib
import sys

from playwright.sync_api import sync_playwright

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent

#: name -> (page, width, height, whether the scheme is dark)
PICTURES = {
    "dashboard": ("/", 1100, 2300, False),
    "dashboard-dark": ("/", 1100, 1000, True),
    "dashboard-phone": ("/", 390, 1800, False),
    "dashboard-grid": ("/asv.html#/", 1100, 900, False),
    "dashboard-graph": ("/asv.html#bench_ndimage.Prepared.time_call", 1100, 900, False),
    "dashboard-regressions": ("/asv.html#/regressions", 1100, 500, False),
}


def main() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import FLAGS, executable, serve

    with serve(ROOT / ".asv" / "html") as url, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable(), args=FLAGS)
        for name, (path, width, height, dark) in PICTURES.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
            )
            page.goto(url + path, wait_until="networkidle")
            page.wait_for_timeout(500)  # asv draws when all has come
            page.screenshot(path=HERE / f"{name}.jpg", quality=80, type="jpeg")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
