"""Names of encoders, methods and augmentations, and the options of what they build."""

from typing import Annotated, Literal

import keras
import pytest

import deeplens_tf as dl
from deeplens_tf import registry
from deeplens_tf.dataclass_parsing import Bounds
from deeplens_tf.registry import Registry


def build(
    shape, width: Annotated[int, Bounds(low=1, high=8)] = 4, *, kind: Literal["a", "b"] = "a"
):
    return shape, width, kind


@pytest.fixture
def names():
    known = Registry("thing", ("shape",), {"round": "deeplens_tf.models"})
    known.register("square", build)
    return known


def test_an_entry_builds_with_checked_options(names):
    entry = names.entry("square")
    assert entry.build(shape=3, **entry.checked({"width": 2})) == (3, 2, "a")
    assert names.names == ("round", "square")
    assert list(names.plugins()) == ["square"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 9}, "width must be at least 1 and at most 8, not 9"),
        ({"width": 2.5}, "width must be a whole number, not 2.5"),
        ({"width": True}, "width must be a whole number, not True"),
        ({"kind": "c"}, "kind must be one of a, b, not 'c'"),
        ({"depth": 1}, "depth is not an option of square, whose options are kind, width"),
    ],
)
def test_a_wrong_option_is_named(names, options, message):
    for key in ("", "section."):
        with pytest.raises(ValueError, match=f"^{key}{message}"):
            names.entry("square").checked(options, key)


def test_an_option_without_a_default_must_be_given(names):
    def needy(shape, width: int):
        return shape, width

    names.register("needy", needy)
    with pytest.raises(ValueError, match="width must be given for needy"):
        names.entry("needy").checked({})
    assert names.entry("needy").checked({}, elsewhere=["width"]) == {}


def unhinted(shape, width=3):
    return shape, width


def unreadable(shape, width: object = 3):
    return shape, width


def spread(shape, *widths: int):
    return shape, widths


@pytest.mark.parametrize("wrong", [unhinted, unreadable, spread])
def test_an_option_without_a_readable_type_is_refused_at_once(names, wrong):
    with pytest.raises(ValueError, match="build must have a type hint for each option of 'new'"):
        names.register("new", wrong)
    assert "new" not in names.names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("square", "there is a thing 'square' already"),
        ("round", "there is a thing 'round' already"),
        ("two words", "must be an identifier. Received: name='two words'"),
        ("", "must be an identifier"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(names, name, message):
    with pytest.raises(ValueError, match=message):
        names.register(name, build)


def test_an_unknown_name_is_answered_with_the_nearest(names):
    with pytest.raises(ValueError, match=r"one of round, square .*'sqare'; did you mean square\?"):
        names.entry("sqare")


@pytest.mark.parametrize("known", [registry.encoders, registry.methods, registry.augmentations])
def test_the_packages_own_names_are_all_registered(known):
    assert known.built_in
    for name in known.built_in:
        assert known.entry(name).name == name
    assert known.plugins() == {}


def test_a_method_needs_a_class_of_self_supervised_models():
    with pytest.raises(ValueError, match="model must be a class of SelfSupervisedModel"):
        dl.models.register_method("new", lambda encoder, probe, total_steps: None, dict)

    class Unregistered(dl.models.ContrastiveModel):
        pass

    with pytest.raises(ValueError, match=r"must be decorated by .*register_keras_serializable"):
        dl.models.register_method("new", lambda encoder, probe, total_steps: None, Unregistered)


def nameless(size, width: int = 3):
    return size, width


def bare(width: int = 3):
    return width


@pytest.mark.parametrize("wrong", [nameless, bare, "build", 3, None, keras.layers.Dense(2)])
def test_what_does_not_take_the_packages_parameters_is_refused(names, wrong):
    with pytest.raises(ValueError, match="build must be a function of shape and options"):
        names.register("new", wrong)
    with pytest.raises(ValueError, match="build must be a function of encoder, probe, total_steps"):
        dl.models.register_method("new", lambda probe, encoder, total_steps: None, VICReg)


@keras.saving.register_keras_serializable(package="tests")
class VICReg(dl.models.JointEmbeddingModel):
    """Stands for a method of a user's own."""


@pytest.mark.parametrize("name", [3, None, ["square"]])
def test_a_name_is_a_text(names, name):
    with pytest.raises(ValueError, match="name must be an identifier"):
        names.register(name, build)
    with pytest.raises(ValueError, match="name must be one of"):
        names.entry(name)


def test_tuples_are_converted_value_by_value(names):
    def tupled(shape, widths: tuple[int, ...] = (4, 4), pair: tuple[int, float] = (1, 2.0)):
        return widths, pair

    names.register("tupled", tupled)
    checked = names.entry("tupled").checked({"widths": [16, 16, 8], "pair": [4, "0.5"]})
    assert checked == {"widths": (16, 16, 8), "pair": (4, 0.5)}
    for pair, message in (([1], "a list of 2 values"), ([0.5, 1], r"pair\[0\] must be a whole")):
        with pytest.raises(ValueError, match=message):
            names.entry("tupled").checked({"pair": pair})
