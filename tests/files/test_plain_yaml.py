"""YAML as plain data, and one line for anything else."""

import pytest

from deeplens_tf.files.plain_yaml import MAX_DIGITS, parse_yaml


def test_plain_data_is_returned():
    text = "a: {b: [1, 2.5, null, true]}\nc: text\n"
    assert parse_yaml(text) == {"a": {"b": [1, 2.5, None, True]}, "c": "text"}
    assert parse_yaml(text.encode()) == parse_yaml(text)
    assert parse_yaml("1" * MAX_DIGITS) == int("1" * MAX_DIGITS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x 1\nb: *x", r"a reference \(\*\) in line 2"),
        ("a: 1\nb: 2\na: 3", "the key a twice in line 3"),
        ("a: {b: 1, b: 2}", "the key b twice in line 1"),
        ("1" * (MAX_DIGITS + 1), f"a number of more than {MAX_DIGITS} digits in line 1"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("a: [", "expected the node content"),
        ("? [a]\n: 1", "found unhashable key"),
        ("[" * 5000, "recursion"),
        ("2024-99-99", "month must be in 1..12"),
        (b"\xff\xfe\x00", "unacceptable character .* in "),
    ],
    ids=lambda text: repr(text[:30]),
)
def test_anything_else_is_refused_with_its_reason_in_one_line(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_yaml(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!map [b]", "expected a mapping node, but found sequence"),
        ("a: !!map b", "expected a mapping node, but found scalar"),
        ("!!set [a]", "expected a mapping node, but found sequence"),
        ("!!bool maybe", "a value does not match its tag"),
        ("!!int ''", "a value does not match its tag"),
        ("!!timestamp x", "a value does not match its tag"),
        ("!!int x", "invalid literal for int"),
    ],
)
def test_a_value_that_does_not_match_its_tag_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_yaml(text)
