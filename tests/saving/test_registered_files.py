"""Files of registered encoders: the options in them are checked before anything is built."""

import json
import zipfile
from typing import Annotated, Any

import keras
import pytest

import deeplens_tf as dl
from deeplens_tf.dataclass_parsing import Bounds

built = []


def flat(image_shape, width: Annotated[int, Bounds(low=1, high=100_000)] = 4, notes: Any = None):
    built.append(width)
    images = keras.Input(image_shape)
    return keras.Model(images, keras.layers.Dense(width)(keras.layers.Flatten()(images)))


@pytest.fixture
def changed(tmp_path, forgotten_names):
    """A function that returns a file of an encoder with another configuration."""
    dl.models.register_encoder("flat", flat)
    good = tmp_path / "good.keras"
    dl.save_encoder(dl.models.build_encoder("flat", (8, 8, 1), width=3), good)

    def write(**config):
        path = tmp_path / "changed.keras"
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "config.json":
                    recipe = json.loads(content)
                    recipe["config"].update(config)
                    content = json.dumps(recipe).encode()
                target.writestr(name, content)
        built.clear()
        return path

    return write


def test_the_file_as_it_was_saved_is_read(changed):
    assert dl.load_encoder(changed()).options == {"width": 3}


LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": None}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder": "other"}, "an encoder of the name 'other', which is not registered"),
        ({"encoder": "resnet50"}, "'resnet50', which is not registered"),
        ({"encoder": ["flat"]}, "which is not registered"),
        ({"options": None}, "without valid options"),
        ({"options": {"notes": LAMBDA}}, "without valid options"),
        ({"options": {"notes": [LAMBDA]}}, "without valid options"),
        ({"options": {"notes": [[LAMBDA]]}}, "requests Lambda"),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_is_built(changed, config, message):
    with pytest.raises(ValueError, match=message):
        dl.load_encoder(changed(**config))
    assert built == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"options": {"width": 100_001}}, "width must be at least 1 and at most 100000"),
        ({"options": {"width": "3"}}, "width must be a whole number"),
        ({"options": {"depth": 3}}, "depth is not an option of flat"),
        ({"options": {"width": 90_000}}, "describes a network of .* weights, but the file stores"),
        ({"image_shape": [4096, 4096, 1]}, "describes a network of .* weights, but the file"),
        ({"image_shape": [8, 8]}, "without a valid image_shape"),
    ],
)
def test_a_wrong_size_is_refused_without_memory_for_it(changed, config, message):
    with pytest.raises(ValueError, match=message):
        dl.load_encoder(changed(**config))
