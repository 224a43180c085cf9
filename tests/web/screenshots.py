"""The README's pictures of the sketch page: `python -m tests.web.screenshots FOLDER`, or `make screenshots`.

The shipped encoder over the demonstration's composed scenes, in the browser of the tests.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from compsketch_milvus.collection import SketchCollection
from compsketch_milvus.demo import SKETCHES
from compsketch_milvus.demo.scenes import gather
from compsketch_milvus.encoder import connect
from compsketch_milvus.web.app import Options, create_app
from compsketch_milvus.web.opened import Where
from encoders.sketch import Sketch
from tests.web.conftest import CHROMIUM, FLAGS
from tests.web.serving import listening

COLOURS = 256  # of a picture: small enough for a repository
DRAW = "(sketch) => import('/document.js').then(({ replace }) => replace(sketch))"


def main(folder: Path) -> None:
    """Write `page-light.png`, `page-why.png` and `page-phone.png`."""
    from playwright.sync_api import sync_playwright

    encoder = connect()
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        gather(here / "photos", scenes=300)
        with SketchCollection.open("photos", encoder, uri=str(here / "photos.db")) as photos:
            photos.ingest(here / "photos")
            photos.search(Sketch.open(SKETCHES / "two-cows.json"), 1)  # the first search of all warms up
        app = create_app(encoder, Options(Where(str(here / "photos.db")), cache=here / "cache"))
        with listening(app) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            light = opened(browser, address, "cat-left-cup-right", 1280, 760)
            light.locator(".photo").first.hover()
            picture(light, folder / "page-light.png")
            why = opened(browser, address, "cat-left-cup-right", 1280, 760, color_scheme="dark")
            why.locator(".photo").first.click()
            why.locator(".fields tr", has_text="source").evaluate("(row) => row.remove()")  # a path of this machine
            why.locator(".why .part").nth(1).click()
            picture(why, folder / "page-why.png")
            phone = opened(browser, address, "flower-over-cup", 390, 844, has_touch=True)
            picture(phone, folder / "page-phone.png")
            browser.close()


def opened(browser: Any, address: str, sketch: str, width: int, height: int, **options: Any) -> Any:
    """The page with a shipped sketch drawn, and its photos there."""
    page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
    page.goto(address)
    page.wait_for_selector(".panel[data-state]")
    page.evaluate(DRAW, json.loads((SKETCHES / f"{sketch}.json").read_text()))
    page.wait_for_selector(".card")
    page.evaluate("() => Promise.all([...document.images].map((image) => image.decode()))")
    return page


def picture(page: Any, path: Path) -> None:
    """What is seen once nothing moves any more, in few colours."""
    page.evaluate("() => Promise.allSettled(document.getAnimations().map((one) => one.finished))")
    page.wait_for_load_state("networkidle")
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
