"""Pictures for pages: another program reads them back."""

import base64
import io

import matplotlib.image
import numpy as np

from sleeptools.report import png


def test_a_picture_reads_back() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (31, 97)).astype(np.uint8)
    palette = rng.integers(0, 256, (256, 3)).astype(np.uint8)
    picture = png.png(pixels, palette, hidden=1)
    read = matplotlib.image.imread(io.BytesIO(picture), format="png")
    np.testing.assert_array_equal(np.rint(read[..., :3] * 255), palette[pixels])
    np.testing.assert_array_equal(read[..., 3] == 0, pixels == 0)
    uri = png.data_uri(picture)
    assert base64.b64decode(uri.removeprefix("data:image/png;base64,")) == picture
