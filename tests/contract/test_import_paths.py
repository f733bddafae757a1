"""The guide's import paths hand on the very objects of the package."""

from __future__ import annotations

import importlib
import pkgutil

import app

PATHS = [module.name for module in pkgutil.walk_packages(app.__path__, "app.") if not module.ispkg]


def test_each_path_of_the_guide_hands_on_the_same_objects() -> None:
    assert "app.services.isolation_forest_service" in PATHS
    for path in PATHS:
        door = importlib.import_module(path)
        package = importlib.import_module(path.replace("app.", "vigie.", 1))
        assert door.__all__
        for name in door.__all__:
            assert getattr(door, name) is getattr(package, name), f"{path}.{name}"
