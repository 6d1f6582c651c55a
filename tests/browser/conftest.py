"""What the browser tests need: a browser, and this folder's modules."""

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _load(name: str) -> object:
    spec = importlib.util.spec_from_file_location(f"browser_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def chromium():
    """The module that drives the browser; skips where there is none."""
    module = _load("chromium")
    if module.executable() is None:
        pytest.skip("no Chromium on PATH (apt-get install chromium)")
    return module
