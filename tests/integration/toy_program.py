"""The program `compsketch` with the toy encoder in place of a bundle, which says each batch and takes its time."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"}
BATCH_SECONDS = 0.05


def command(*arguments: object) -> list[str]:
    """What to run, with ``ENVIRONMENT``."""
    return [sys.executable, __file__, *map(str, arguments)]


def _main() -> None:
    from toy import ToyEncoder

    from compsketch_milvus import encoder
    from compsketch_milvus.cli import main

    class Slow(ToyEncoder):
        def encode_images(self, images):
            print("encoding", flush=True)
            time.sleep(BATCH_SECONDS)
            return super().encode_images(images)

    encoder.connect = lambda spec=None, **options: Slow()  # type: ignore[assignment]
    main()


if __name__ == "__main__":
    _main()
