"""The public names: ``from vigie import ...``, and the guide's import paths."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import app
import vigie

PATHS = [module.name for module in pkgutil.walk_packages(app.__path__, "app.") if not module.ispkg]
HEAVY = ("torch", "sklearn", "mlflow", "numba", "pandas", "pydantic", "fastapi")


def test_each_path_of_the_guide_hands_on_the_same_objects() -> None:
    assert "app.services.isolation_forest_service" in PATHS
    for path in PATHS:
        door = importlib.import_module(path)
        package = importlib.import_module(path.replace("app.", "vigie.", 1))
        assert door.__all__
        for name in door.__all__:
            assert getattr(door, name) is getattr(package, name), f"{path}.{name}"


def test_each_public_name_is_the_object_of_its_long_path() -> None:
    by_long_path = {"samples": importlib.import_module("vigie.samples")}
    for path in PATHS:
        module = importlib.import_module(path.replace("app.", "vigie.", 1))
        by_long_path |= {
            name: value for name, value in vars(module).items() if name in vigie.__all__
        }

    assert {name: getattr(vigie, name) for name in vigie.__all__} == by_long_path


def test_public_names_can_be_completed_and_others_are_refused() -> None:
    assert set(vigie.__all__) <= set(dir(vigie))
    with pytest.raises(AttributeError, match="module 'vigie' has no attribute 'IsolationForest'"):
        vigie.IsolationForest  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'IsolationForest'"):
        exec("from vigie import IsolationForest")


@pytest.mark.parametrize(
    ("code", "loaded"),
    [("import vigie", set()), ("from vigie import Settings", {"pydantic"})],
)
def test_a_name_loads_no_more_than_it_needs(code: str, loaded: set[str]) -> None:
    code += f"; import sys; print(*set({HEAVY}) & set(sys.modules))"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(process.stdout.split()) == loaded
