"""The folder operator/ shares its name with a module of the standard library; it must never shadow it."""

import operator
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_operator_folder_never_becomes_a_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert not (ROOT / "tests" / "operator" / "__init__.py").exists()


def test_the_standard_operator_module_is_the_one_imported() -> None:
    assert str(operator.__file__).startswith(sysconfig.get_paths()["stdlib"])
