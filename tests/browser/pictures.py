"""Takes the pictures of the README from a running demo: ``python -m tests.browser.pictures``."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, sync_playwright

from tests.browser.running import Demo, running_demo
from tests.browser.test_journey import MICROSOFT, click, open_message, sign_in_and_connect, three_links
from tests.chromium import ARGUMENTS

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
SUBJECT = "Your parcel, your voucher, your account"


def take(demo: Demo, context: BrowserContext) -> None:
    """Connect, click about, and photograph the overview, a trace and a blocked link."""
    page = context.new_page()
    sign_in_and_connect(page, demo, MICROSOFT)
    port = urlsplit(demo.emulators).port or 0
    for number in range(3):
        mail = three_links(MICROSOFT.reader, port, f"{SUBJECT} {number}")
        demo.control("POST", "/deliver", {"provider": "microsoft", "to": MICROSOFT.reader, "mime_base64": mail})
    time.sleep(8)
    for number in range(3):
        open_message(page, demo, MICROSOFT, f"{SUBJECT} {number}")
        for text in ("good", "odd", "bad")[: 3 - number]:
            opened = click(page, context, text)
            if text == "bad":
                opened.set_viewport_size({"width": 760, "height": 640})
                opened.screenshot(path=FOLDER / "blocked.png")
            opened.close()
    time.sleep(2)
    page.goto(f"{demo.console}/overview")
    page.wait_for_timeout(500)
    page.screenshot(path=FOLDER / "console.png")
    page.goto(f"{demo.console}/messages")
    page.get_by_test_id("message-row").first.locator("a").first.click()
    page.wait_for_timeout(800)
    page.screenshot(path=FOLDER / "trace.png")


def main() -> int:
    """Write the pictures."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.stderr.write("Chromium is not installed.\n")
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with running_demo(deliver_every=1) as demo, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        take(demo, browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB"))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
