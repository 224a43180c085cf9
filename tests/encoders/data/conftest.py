"""The sets in small, in the form in which they are distributed."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
DOG, CAT, FURNITURE, MUSKET, TIGER = "/m/0bt9lr", "/m/01yrx", "/m/0c_jw", "/m/099999", "/m/07dm6"
CLASSES = f"{DOG},Dog\n{CAT},Cat\n{FURNITURE},Furniture\n{MUSKET},Musket\n{TIGER},Tiger\n"
A, B, C, D = "000002b66c9c498e", "000002b97e5471a0", "000002c707c9895e", "00000ae4c7ae2d4d"


def row(image: str, code: str, xmin: float, xmax: float, ymin: float, ymax: float, *, group=0, inside=0) -> str:
    """A line of ``*-annotations-bbox.csv``."""
    return f"{image},xclick,{code},1,{xmin},{xmax},{ymin},{ymax},0,1,{group},0,{inside}"


def photo(path: Path, size: tuple[int, int] = (40, 20)) -> None:
    """A plain photo on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)


class OpenImages:
    """A folder of CSVs and one of photos, to which a test adds."""

    def __init__(self, root: Path) -> None:
        self.csv, self.images = root / "csv", root / "images"
        self.csv.mkdir()
        self.images.mkdir()
        (self.csv / "class-descriptions-boxable.csv").write_text(CLASSES)

    def boxes(self, split: str, *rows: str, header: str = HEADER, prefix: str = "") -> None:
        (self.csv / f"{prefix}{split}-annotations-bbox.csv").write_text("\n".join([header, *rows, ""]))

    def photos(self, *names: str, size: tuple[int, int] = (40, 20), split: str = "") -> None:
        for name in names:
            photo(self.images / split / f"{name}.jpg", size)


@pytest.fixture
def openimages(tmp_path: Path) -> OpenImages:
    """Two training photos: A with a dog and furniture, B with a cat and a group of dogs."""
    made = OpenImages(tmp_path)
    made.boxes(
        "train",
        row(A, DOG, 0.25, 0.75, 0.1, 0.9),
        row(A, FURNITURE, 0, 1, 0, 1),
        row(B, CAT, 0, 0.5, 0, 1),
        row(B, DOG, 0, 1, 0.5, 1, group=1),
    )
    made.photos(A)
    made.photos(B, size=(30, 50))
    return made
