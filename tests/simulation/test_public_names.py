import subprocess
import sys

import pytest

from deeplens_tf import simulation


@pytest.mark.parametrize("name", simulation.__all__)
def test_every_public_name_is_defined(name):
    assert getattr(simulation, name) is not None


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys; from deeplens_tf.simulation import SimulationRequest;"
        "print({'tensorflow', 'keras', 'lenstronomy', 'astropy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
