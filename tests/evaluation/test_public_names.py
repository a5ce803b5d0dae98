"""The names that `deeplens_tf.evaluation` and `deeplens_tf.figures` export."""

import pytest

from deeplens_tf import evaluation, figures


@pytest.mark.parametrize("package", [evaluation, figures])
def test_every_public_name_exists_and_is_no_module(package):
    for name in package.__all__:
        assert not hasattr(getattr(package, name), "__path__"), name
        assert name in dir(package)
    with pytest.raises(AttributeError, match=f"{package.__name__}.*'nothing'"):
        _ = package.nothing


def test_importing_the_packages_imports_nothing_heavy(run_python):
    program = """
import sys
from deeplens_tf import evaluation, figures
print(sorted({"tensorflow", "keras", "matplotlib", "pandas", "sklearn"} & set(sys.modules)))
"""
    ended = run_python("-c", program)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
