"""Typed settings from plain mappings: accepted values, and messages for wrong ones."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from deeplens_tf.dataclass_parsing import (
    Bounds,
    Different,
    all_keys,
    parse_dataclass,
    to_plain,
    unknown_key,
)
from deeplens_tf.errors import RequestError


@dataclass(frozen=True)
class Wheel:
    radius: Annotated[float, Bounds(above=0, high=2)]
    spokes: Annotated[int, Bounds(low=1)] | None


@dataclass(frozen=True)
class Car:
    name: str
    electric: bool
    doors: int
    colour: Literal["red", "blue"]
    fuels: Annotated[tuple[Literal["sun", "wind"], ...], Different()]
    wheel: Wheel


GOOD = {
    "name": "Ada",
    "electric": True,
    "doors": 4,
    "colour": "red",
    "fuels": ["sun", "wind"],
    "wheel": {"radius": 0.5, "spokes": None},
}


def refusal(**changes):
    with pytest.raises(RequestError) as caught:
        parse_dataclass(Car, GOOD | changes)
    return str(caught.value)


def test_a_good_mapping_becomes_the_dataclass_and_back():
    car = parse_dataclass(Car, GOOD)
    assert car == Car("Ada", True, 4, "red", ("sun", "wind"), Wheel(0.5, None))
    assert to_plain(car) == GOOD


def test_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_dataclass(Car, GOOD).wheel.radius = 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "name must be text, not 3"),
        ({"name": None}, "name must be text, not None"),
        ({"electric": 1}, "electric must be true or false, not 1"),
        ({"electric": "yes"}, "electric must be true or false, not 'yes'"),
        ({"doors": 4.0}, "doors must be a whole number, not 4.0"),
        ({"doors": True}, "doors must be a whole number, not True"),
        ({"doors": "4"}, "doors must be a whole number, not '4'"),
        ({"colour": "green"}, "colour must be one of red, blue, not 'green'"),
        ({"colour": ["red"]}, "colour must be one of red, blue, not ['red']"),
        ({"fuels": "sun"}, "fuels must be a list such as [a, b], not 'sun'"),
        ({"fuels": ["sun", "coal"]}, "fuels[1] must be one of sun, wind, not 'coal'"),
        ({"fuels": ["sun", "sun"]}, "fuels must be a list without repetitions, not ('sun', 'sun')"),
        ({"wheel": None}, "wheel must be a mapping, not None"),
        ({"wheel": [1]}, "wheel must be a mapping, not [1]"),
        ({"wheel": {"radius": "big", "spokes": 1}}, "wheel.radius must be a number, not 'big'"),
        ({"wheel": {"radius": True, "spokes": 1}}, "wheel.radius must be a number, not True"),
        ({"wheel": {"radius": None, "spokes": 1}}, "wheel.radius must be a number, not None"),
        ({"wheel": {"radius": 1, "spokes": 1.5}}, "wheel.spokes must be a whole number, not 1.5"),
    ],
)
def test_a_wrong_type_is_reported_with_its_key(changes, message):
    assert refusal(**changes) == message


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1.0), (0.25, 0.25), ("1e-3", 0.001), ("1.5E0", 1.5), (2, 2.0)]
)
def test_numbers_are_accepted_in_every_form_that_yaml_yields(value, number):
    radius = parse_dataclass(Wheel, {"radius": value, "spokes": 1}).radius
    assert radius == number
    assert type(radius) is float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "inf", "nan", 10**400])
def test_anything_but_a_finite_number_is_refused(value):
    with pytest.raises(RequestError, match=r"^radius must be a number"):
        parse_dataclass(Wheel, {"radius": value, "spokes": 1})


@pytest.mark.parametrize(
    ("wheel", "message"),
    [
        ({"radius": 0, "spokes": 1}, "wheel.radius must be above 0 and at most 2, not 0.0"),
        ({"radius": 2.1, "spokes": 1}, "wheel.radius must be above 0 and at most 2, not 2.1"),
        ({"radius": 1, "spokes": 0}, "wheel.spokes must be at least 1, not 0"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_the_bounds(wheel, message):
    assert refusal(wheel=wheel) == message


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        (Bounds(low=1), [1, 2], [0.999]),
        (Bounds(high=1), [1, -5], [1.001]),
        (Bounds(above=1), [1.001], [1, 0]),
        (Bounds(below=1), [0.999, -5], [1, 2]),
        (Bounds(low=0, high=1), [0, 1, 0.5], [-0.1, 1.1, float("nan")]),
        (Bounds(), [0, -1e9], [float("nan")]),
    ],
)
def test_bounds_include_low_and_high_but_not_above(bounds, inside, outside):
    assert all(bounds.admits(value) for value in inside)
    assert not any(bounds.admits(value) for value in outside)


def test_a_missing_key_is_named():
    with pytest.raises(RequestError, match=r"^the configuration lacks the key wheel\.spokes$"):
        parse_dataclass(Car, GOOD | {"wheel": {"radius": 1}})


def test_anything_but_a_mapping_is_refused():
    with pytest.raises(RequestError, match=r"^the configuration must be a mapping, not \[\]$"):
        parse_dataclass(Car, [])


def test_all_keys_lists_sections_before_their_keys():
    keys = all_keys(Car)
    assert keys == [*GOOD, "wheel.radius", "wheel.spokes"]
    assert all_keys(Wheel, "wheel") == keys[-2:]


@pytest.mark.parametrize(
    ("key", "guess"),
    [("nam", "name"), ("wheel.radus", "wheel.radius"), ("spokes", "wheel.spokes")],
)
def test_the_message_for_an_unknown_key_names_the_nearest(key, guess):
    message = unknown_key(key, all_keys(Car))
    assert message == f"unknown configuration key {key}: did you mean {guess}?"


def test_the_message_for_a_dotted_key_in_a_file_shows_how_to_write_it():
    with pytest.raises(
        RequestError, match=r"'wheel.radius': in a file .* wheel: \{radius: \.\.\.}$"
    ):
        parse_dataclass(Car, {**GOOD, "wheel.radius": 1.0})


def test_the_message_for_a_key_unlike_any_other_lists_the_known_keys():
    message = unknown_key("zzzzzz", all_keys(Wheel))
    assert message == "unknown configuration key zzzzzz: known keys: radius, spokes"
