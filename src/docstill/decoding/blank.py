"""Pages without anything on them: a model asked to read one would invent an answer.

Ink is what differs from its surroundings. The page is shrunk to a long side of 1,000 to 2,000 pixels, gray; each pixel is compared
with the mean of the 31 × 31 pixels around it, so that shadows and stained paper do not count. A pixel is ink if it differs by
more than six times the page's grain (the median difference, as a standard deviation), but by no less than 8 and no more than
48 of 255 levels. A page with less than 1 in 20,000 pixels of ink is blank: less than a single short word.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageFilter

SIDE = 1000
AROUND = 15
HARDLY_ANY = 1 / 20_000
LEAST, MOST, GRAINS = 8.0, 48.0, 6.0


def ink(image: Image.Image) -> float:
    """The share of a page's pixels that is ink, in [0, 1]."""
    page = image if image.mode in {"L", "RGB"} else image.convert("RGB")
    factor = max(page.size) // SIDE
    page = (page.reduce(factor) if factor > 1 else page).convert("L")
    counts = np.array(ImageChops.difference(page, page.filter(ImageFilter.BoxBlur(AROUND))).histogram())
    grain = 1.4826 * float(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    levels = np.arange(256)
    return float(counts[levels > np.clip(GRAINS * grain, LEAST, MOST)].sum() / counts.sum())


def is_blank(image: Image.Image) -> bool:
    """Whether a page has hardly any ink."""
    return ink(image) < HARDLY_ANY
