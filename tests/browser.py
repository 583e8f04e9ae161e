"""A real browser for tests of HTML pages: headless Chromium, driven by playwright.

``visit`` is a fixture: import it into a test module, with `chromium`, and call it with a URL::

    from browser import chromium, serve, visit  # noqa: F401

    def test_report(visit, tmp_path):
        with serve(tmp_path) as url:
            page = visit(f"{url}/report.html", width=390, dark=True)
            assert page.locator("h1").inner_text() == "Tuning"
            page.screenshot(path="report.png")

It returns playwright's page (https://playwright.dev/python/docs/api/class-page). When the test
ends, it fails on anything that went wrong in a page: an exception or an error in its console, a
request that failed or was answered by an error, and any that left 127.0.0.1, which is refused.
``file:`` URLs are fine, too. Chromium is Debian's (``apt-get install --no-install-recommends
chromium``), or what ``CHROMIUM`` names; without it, or without playwright, tests are skipped and
say so.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pathlib
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

#: No word to its maker, no sandbox where there are no user namespaces, no GPU.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip


def executable() -> str:
    """Chromium's path; skips when there is none."""
    named = os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, (named,) if named else NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: apt-get install --no-install-recommends chromium")
    return found


@contextlib.contextmanager
def serve(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Serve a folder on 127.0.0.1 while the block runs; the URL, without a slash at its end."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=os.fspath(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser, once for all tests of a session."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install it")
    path = executable()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open pages; see above."""
    wrong: list[str] = []
    contexts: list[Any] = []

    def guard(route: Any) -> None:
        url = route.request.url
        if urllib.parse.urlsplit(url).hostname in (None, "", "127.0.0.1"):
            route.continue_()
        else:
            wrong.append(f"a request left this machine: {url}")
            route.abort()

    def open_page(url: str, width: int = 1280, height: int = 900, dark: bool = False) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        context.route("**/*", guard)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(f"exception: {error}"))
        page.on(
            "console",
            lambda message: message.type == "error" and wrong.append(f"console: {message.text}"),
        )
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on(
            "response",
            lambda answer: answer.status >= 400 and wrong.append(f"{answer.status}: {answer.url}"),
        )
        page.goto(url, wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not wrong, "\n".join(wrong)


def spill(page: Any) -> int:
    """How many pixels the page is wider than its window: what a reader would scroll sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


def save(page: Any, path: pathlib.Path, full: bool = True) -> None:
    """A screenshot, of the whole page unless told otherwise."""
    page.screenshot(path=path, full_page=full)
