"""Scenes to rank: photos that scikit-image and scikit-learn carry, and compositions of objects cut out of them.

The packages hold a dozen photos, too few to rank. So four objects (a cat, a cup, a motorbike, a flower) are cut out
of theirs by hand-drawn outlines and set on the others at places drawn from a seed.
"""

from __future__ import annotations

import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from compsketch_milvus.errors import SourceError

__all__ = ["Scene", "Thing", "compose", "gather", "originals"]

Box = tuple[float, float, float, float]
SCENE = (480, 360)

# Photos taken as they are: package, its file.
PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/camera.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/coins.png"),
    ("skimage", "data/hubble_deep_field.jpg"),
    ("skimage", "data/motorcycle_left.png"),
    ("skimage", "data/rocket.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
    ("sklearn", "datasets/images/flower.jpg"),
)

# Outlines in pixels of the photo: ellipses by their boxes, and polygons.
Outline = tuple[tuple[Box, ...], tuple[tuple[tuple[int, int], ...], ...]]
# fmt: off
_CAT = (
    (44, 0), (32, 50), (44, 118), (52, 172), (100, 217), (150, 257), (200, 277), (255, 286), (298, 272), (314, 226),
    (350, 172), (361, 125), (353, 76), (373, 40), (395, 0), (338, 0), (290, 14), (200, 20), (120, 14), (86, 0),
)
_MOTORBIKE = (
    (92, 205), (110, 195), (139, 195), (137, 160), (146, 146), (162, 146), (168, 162), (200, 162), (235, 170),
    (265, 190), (300, 192), (350, 190), (395, 166), (357, 172), (357, 165), (395, 137), (370, 129), (335, 140),
    (332, 128), (352, 114), (378, 110), (405, 124), (430, 120), (462, 136), (476, 118), (500, 100), (492, 80),
    (503, 50), (514, 22), (519, 35), (508, 75), (542, 98), (532, 105), (540, 124), (565, 118), (581, 122), (580, 140),
    (560, 150), (556, 185), (556, 200), (580, 262), (610, 268), (645, 300), (670, 340), (685, 385), (680, 430),
    (655, 450), (620, 448), (580, 425), (540, 380), (515, 340), (503, 325), (474, 330), (455, 362), (415, 380),
    (345, 373), (342, 396), (336, 435), (325, 432), (330, 387), (318, 368), (280, 366), (262, 390), (225, 402),
    (180, 395), (140, 360), (122, 310), (125, 275), (145, 250), (150, 243), (110, 246), (96, 226),
)
_SPOON = ((400, 70), (413, 66), (424, 74), (416, 108), (404, 112))
CUTOUTS: dict[str, tuple[str, str, Outline]] = {
    "cat": ("skimage", "data/chelsea.png", ((), (_CAT,))),
    "cup": ("skimage", "data/coffee.png", (((77, 60, 479, 389), (173, 18, 409, 208)), (_SPOON,))),
    "motorbike": ("skimage", "data/motorcycle_left.png", ((), (_MOTORBIKE,))),
    "flower": ("sklearn", "datasets/images/flower.jpg", (((170, 86, 445, 358),), ())),
}
# Backgrounds: package, file, the part without any of the objects, colours for a gray one (dark, light).
BACKGROUNDS: tuple[tuple[str, str, tuple[int, int, int, int], tuple[str, str] | None], ...] = (
    ("sklearn", "datasets/images/china.jpg", (0, 0, 640, 427), None),
    ("sklearn", "datasets/images/china.jpg", (300, 120, 640, 375), None),
    ("sklearn", "datasets/images/flower.jpg", (455, 0, 640, 330), None),
    ("sklearn", "datasets/images/flower.jpg", (0, 0, 165, 427), None),
    ("skimage", "data/coffee.png", (485, 0, 600, 400), None),
    ("skimage", "data/motorcycle_left.png", (0, 405, 520, 500), None),
    ("skimage", "data/motorcycle_left.png", (0, 0, 330, 140), None),
    ("skimage", "data/rocket.jpg", (0, 0, 640, 427), None),
    ("skimage", "data/camera.png", (270, 60, 512, 512), None),
    ("skimage", "data/grass.png", (0, 0, 512, 512), ("#16240c", "#b7cf86")),
    ("skimage", "data/gravel.png", (0, 0, 512, 512), ("#2b2723", "#d8cfc4")),
    ("skimage", "data/brick.png", (0, 0, 512, 512), ("#3a1610", "#d9a68c")),
)
# fmt: on


@dataclass(frozen=True)
class Thing:
    """One object of a scene: its Quick, Draw! word, and its box (x0, y0, x1, y1) as parts of the picture, in [0, 1]."""

    label: str
    box: Box


@dataclass(frozen=True)
class Scene:
    """A composed picture, RGB, and what lies where in it."""

    image: Image.Image
    things: tuple[Thing, ...]

    @property
    def name(self) -> str:
        """What it holds from left to right, such as "cat-cup"."""
        return "-".join(thing.label for thing in sorted(self.things, key=lambda thing: thing.box[0]))


def gather(folder: Path, *, scenes: int = 300, seed: int = 0) -> int:
    """Write the packages' photos and composed scenes as JPEGs; the same seed writes the same pictures.

    Args:
        folder: Where to; made if missing.
        scenes: How many compositions, beside the photos as they are.
        seed: Draws backgrounds, objects, places and sizes.

    Returns:
        The number of pictures in the folder.

    Raises:
        SourceError: A package that carries the photos is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in originals():
        _write(image, folder / f"photo-{name}.jpg")
    rng = np.random.default_rng(seed)
    cutouts = {label: _cut_out(*entry) for label, entry in CUTOUTS.items()}
    backgrounds = [_background(*entry) for entry in BACKGROUNDS]
    for number in range(scenes):
        scene = compose(rng, cutouts, backgrounds)
        _write(scene.image, folder / f"scene-{number:03d}-{scene.name}.jpg")
    return scenes + len(PHOTOS)


def _write(image: Image.Image, path: Path) -> None:
    """Write a JPEG, but leave one alone that is the same: an ingest takes a new file for a new photo."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    if not path.exists() or path.read_bytes() != data.getvalue():
        path.write_bytes(data.getvalue())


def originals() -> list[tuple[str, Image.Image]]:
    """The packages' own photos as (name, RGB image)."""
    return [(Path(file).stem.replace("_", "-"), _open(package, file)) for package, file in PHOTOS]


def compose(rng: np.random.Generator, cutouts: dict[str, Image.Image], backgrounds: list[Image.Image]) -> Scene:
    """One to three objects on a background, none hiding another.

    Args:
        rng: Draws everything.
        cutouts: RGBA pictures, cropped to the object, by label.
        backgrounds: RGB pictures.
    """
    width, height = SCENE
    canvas = _vary(rng, _crop(rng, backgrounds[rng.integers(len(backgrounds))]))
    things: list[Thing] = []
    for cell in _cells(rng):
        label = str(rng.choice(list(cutouts)))
        piece = _vary(rng, cutouts[label])
        room_x, room_y = (cell[2] - cell[0]) * width, (cell[3] - cell[1]) * height
        scale = min(room_x / piece.width, room_y / piece.height) * rng.uniform(0.75, 0.98)
        piece = piece.resize((max(1, round(piece.width * scale)), max(1, round(piece.height * scale))))
        x = round(cell[0] * width + rng.uniform(0, 1) * (room_x - piece.width))
        y = round(cell[1] * height + rng.uniform(0, 1) * (room_y - piece.height))
        canvas.paste(piece, (x, y), piece)
        box = (x / width, y / height, (x + piece.width) / width, (y + piece.height) / height)
        things.append(Thing(label, box))
    return Scene(canvas, tuple(things))


def _cells(rng: np.random.Generator) -> list[Box]:
    """Where the objects may lie: columns, rows, or one beside two."""
    a = rng.uniform(0.4, 0.6)
    layouts: list[list[Box]] = [
        [(rng.uniform(0, 0.4), rng.uniform(0, 0.4), 1.0, 1.0)],
        [(0.0, 0.1, a, 1.0), (a, 0.1, 1.0, 1.0)],
        [(0.0, 0.0, a, 0.9), (a, 0.1, 1.0, 1.0)],
        [(0.15, 0.0, 0.85, a), (0.15, a, 0.85, 1.0)],
        [(0.0, 0.2, 0.33, 0.95), (0.33, 0.1, 0.67, 0.9), (0.67, 0.2, 1.0, 0.95)],
        [(0.0, 0.0, a, 1.0), (a, 0.0, 1.0, 0.5), (a, 0.5, 1.0, 1.0)],
        [(0.2, 0.0, 0.8, a), (0.0, a, 0.5, 1.0), (0.5, a, 1.0, 1.0)],
    ]
    return layouts[rng.choice(len(layouts), p=[0.08, 0.2, 0.2, 0.2, 0.12, 0.1, 0.1])]


def _crop(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """A random part of a background, in the scene's aspect and size."""
    part = rng.uniform(0.6, 1.0)
    width = part * min(image.width, image.height * SCENE[0] / SCENE[1])
    height = width * SCENE[1] / SCENE[0]
    x, y = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    return image.resize(SCENE, Image.Resampling.BICUBIC, (x, y, x + width, y + height))


def _vary(rng: np.random.Generator, image: Image.Image) -> Image.Image:
    """Mirror half of the pictures and change their light a little; alpha stays."""
    image = ImageOps.mirror(image) if rng.random() < 0.5 else image.copy()
    light = rng.uniform(0.8, 1.2)
    table = [min(255, round(value * light)) for value in range(256)]
    return image.point(table * 3 + ([] if image.mode == "RGB" else list(range(256))))


def _cut_out(package: str, file: str, outline: Outline) -> Image.Image:
    """The object as RGBA, cropped to its outline, its edge softened over a pixel or two."""
    photo = _open(package, file)
    ellipses, polygons = outline
    mask = Image.new("L", (photo.width * 3, photo.height * 3))
    pen = ImageDraw.Draw(mask)
    for ellipse in ellipses:
        pen.ellipse([value * 3 for value in ellipse], fill=255)
    for polygon in polygons:
        pen.polygon([(x * 3, y * 3) for x, y in polygon], fill=255)
    mask = mask.reduce(3).filter(ImageFilter.GaussianBlur(1.2))
    photo.putalpha(mask)
    return photo.crop(mask.getbbox())


def _background(
    package: str, file: str, part: tuple[int, int, int, int], colours: tuple[str, str] | None
) -> Image.Image:
    image = _open(package, file).crop(part)
    return ImageOps.colorize(image.convert("L"), *colours) if colours else image


def _open(package: str, file: str) -> Image.Image:
    """A photo of an installed package, which is not imported for it."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder) / file for folder in folders or ()]
    found = next((path for path in paths if path.exists()), None)
    if found is None:
        name = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[package]
        raise SourceError(f"{package}/{file}: not installed; run `pip install {name}`, or give photos of your own")
    with Image.open(found) as image:
        return image.convert("RGB")
