"""The public names."""

import subprocess
import sys
from pathlib import Path

import pytest

import l2lnp


@pytest.mark.parametrize("name", l2lnp.__all__)
def test_every_public_name_exists_and_is_documented(name):
    value = getattr(l2lnp, name)
    assert value.__doc__
    assert f"`{name}`" in (Path(__file__).parents[1] / "docs" / "api.md").read_text()


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'sequential'"):
        l2lnp.sequential  # noqa: B018


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, l2lnp.cli; sys.exit(str({'numpy', 'matplotlib', 'h5py', 'rich'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "set()"
