"""The projector's files, as TensorBoard's own plugin serves them."""

import io
import json

import matplotlib.image
import numpy as np
import pytest

from deeplens_tf.figures.image_grids import image_grid
from deeplens_tf.figures.projector_files import (
    MAX_SPRITE_SIDE,
    sprite,
    thumbnail_side,
    thumbnails_of,
    write_projector_files,
)

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def served():
    """A function: folder -> route, query -> the answer of TensorBoard's plugin."""
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
    from werkzeug.test import Client

    def open_folder(folder):
        apps = ProjectorPlugin(TBContext(logdir=str(folder))).get_plugin_apps()

        def get(route, **query):
            response = Client(apps[route]).get(query_string={"run": ".", **query})
            assert response.status_code == 200, response.text
            return response.get_data()

        return get

    return open_folder


@pytest.mark.slow  # TensorBoard's plugin imports TensorFlow
def test_tensorboard_serves_the_vectors_the_table_and_the_sprite(tmp_path, served):
    vectors = RANDOM.normal(size=(5, 3)).astype(np.float32) * 1000
    thumbnails = RANDOM.integers(0, 255, (5, 4, 4, 3), np.uint8)
    columns = {"file": [f"a{k}.npy" for k in range(5)], "label": ["cdm", "", "a\tb", "x\ny", "ü"]}
    write_projector_files(tmp_path, vectors, columns, thumbnails)
    get = served(tmp_path)
    (embedding,) = json.loads(get("/info"))["embeddings"]
    assert (embedding["tensorName"], embedding["tensorShape"]) == ("features", [5, 3])
    assert embedding["sprite"]["singleImageDim"] == [4, 4]
    read = np.frombuffer(get("/tensor", name="features"), np.float32).reshape(5, 3)
    assert read == pytest.approx(vectors, rel=1e-5)
    lines = get("/metadata", name="features").decode().split("\n")
    assert lines == [
        "file\tlabel",
        *("a0.npy\tcdm", "a1.npy\t-", r"a2.npy" + "\t" + r"a\tb", "a3.npy\t" + r"x\ny"),
        *("a4.npy\tü", ""),
    ]
    picture = matplotlib.image.imread(io.BytesIO(get("/sprite_image", name="features")))
    picture = np.round(picture[..., :3] * 255)
    for k, thumbnail in enumerate(thumbnails):
        row, column = 4 * (k // 3), 4 * (k % 3)
        assert (picture[row : row + 4, column : column + 4] == thumbnail).all()


@pytest.mark.slow  # TensorBoard's plugin imports TensorFlow
def test_one_column_has_no_header_and_no_thumbnails_no_sprite(tmp_path, served):
    write_projector_files(tmp_path, np.eye(2), {"label": ["cdm", "axion"]}, name="map")
    get = served(tmp_path)
    assert get("/metadata", name="map") == b"cdm\naxion\n"
    assert "sprite" not in json.loads(get("/info"))["embeddings"][0]


def test_a_thumbnail_is_the_image_as_a_grid_shows_it():
    images = [RANDOM.random((8, 8)), RANDOM.random((8, 8, 3)), RANDOM.random((4, 2))]
    thumbnails = thumbnails_of(images, 4)
    assert thumbnails.shape == (3, 4, 4, 3)
    for image, thumbnail in zip(images[:2], thumbnails, strict=False):
        (shown,) = image_grid([image]).axes[0].images
        drawn = shown.to_rgba(shown.get_array(), bytes=True)[::-1][::2, ::2, :3]
        assert thumbnail.astype(int) == pytest.approx(drawn.astype(int), abs=1)
    assert (thumbnails[2][:, 0] == thumbnails[2][:, 1]).all()  # a column shown twice


@pytest.mark.parametrize("count", [1, 2, 4, 5, 10_000, 1_000_000])
def test_a_sprite_fits_and_is_square(count):
    side, rows = thumbnail_side(count), int(np.ceil(np.sqrt(count)))
    assert rows * side <= MAX_SPRITE_SIDE
    assert side == 64 or rows * (side + 1) > MAX_SPRITE_SIDE
    if count < 10:
        assert sprite(np.zeros((count, side, side, 3), np.uint8)).shape[0] == rows * side


@pytest.mark.parametrize(
    ("vectors", "columns", "thumbnails"),
    [
        (np.eye(2), {"a": ["x"]}, None),
        (np.eye(2), {}, None),
        (np.zeros((0, 2)), {"a": []}, None),
        (np.ones(2), {"a": ["x", "y"]}, None),
        (np.eye(2), {"a": ["x", "y"]}, np.zeros((3, 2, 2, 3), np.uint8)),
        (np.eye(2), {"a": ["x", "y"]}, np.zeros((2, 5000, 1, 3), np.uint8)),
    ],
)
def test_what_does_not_match_is_refused(tmp_path, vectors, columns, thumbnails):
    with pytest.raises(ValueError, match="Received"):
        write_projector_files(tmp_path, vectors, columns, thumbnails)
    assert not list(tmp_path.iterdir())
