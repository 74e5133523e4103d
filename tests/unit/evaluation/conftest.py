"""Drawn images for tests of scores."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.data.synthetic.dataset import make_image
from segpipe.diagnosis import CODES
from segpipe.io.images import write_png


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Ten drawn images with their masks, as rows of a checked data set."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(10):
        image, mask = make_image(CODES[number % 7], rng, (60, 80))
        Image.fromarray(image).save(folder / f"{number}.png")
        write_png(folder / f"{number}_segmentation.png", mask)
        paths = {"image_path": str(folder / f"{number}.png"), "mask_path": str(folder / f"{number}_segmentation.png")}
        rows.append({"image_id": str(number), "lesion_id": f"L{number // 2}", "dx": CODES[number % 7], **paths})
    return pd.DataFrame(rows)
