"""The examples in docstrings of the models run and print what they show."""

import doctest
from types import ModuleType

import pytest

from toyfcn.models import fcn, upsampling


@pytest.mark.parametrize("module", [fcn, upsampling], ids=lambda module: module.__name__)
def test_examples_in_docstrings(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
