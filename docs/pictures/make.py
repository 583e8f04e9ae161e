"""Make the pictures of the README from those of `fastconv demo`: smaller, and light to load.

Run ``fastconv demo --out FOLDER``, then ``python docs/pictures/make.py FOLDER``.
"""

from __future__ import annotations

import pathlib
import sys

from PIL import Image

#: Photographs become JPEG, drawings a PNG of few colours; in pixels, how wide.
PICTURES = {
    "photograph": ("jpg", 1000),
    "template": ("jpg", 1000),
    "unet": ("jpg", 1000),
    "reverb": ("jpg", 900),
    "dice": ("png", 900),
    "speed": ("png", 800),
}


def main(source: pathlib.Path, target: pathlib.Path) -> None:
    for name, (kind, width) in PICTURES.items():
        with Image.open(source / f"{name}.png") as picture:
            height = round(picture.height * width / picture.width)
            small = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
        if kind == "jpg":
            small.save(target / f"{name}.jpg", quality=82, optimize=True, progressive=True)
        else:
            small.quantize(64).save(target / f"{name}.png", optimize=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python docs/pictures/make.py FOLDER")
    main(pathlib.Path(sys.argv[1]), pathlib.Path(__file__).parent)
