"""Compiled functions that are kept on disk are used only while the package's sources stay."""

import importlib.util

import pytest

from safevla_envs import compiled as module
from safevla_envs.compiled import compiled


@pytest.fixture
def loaded(tmp_path):
    """Imports a module with one function afresh."""
    path = tmp_path / "once.py"
    path.write_text("def half(x):\n    return x / 2\n")

    def load():
        spec = importlib.util.spec_from_file_location("once", path)
        once = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(once)
        made = compiled(once.half)
        assert made(3.0) == 1.5
        return sum(made.stats.cache_hits.values())

    return load


def test_kept_until_a_source_of_the_package_changes(loaded, monkeypatch):
    assert [loaded(), loaded()] == [0, 1]
    monkeypatch.setattr(module, "_sources", lambda: "another")
    assert [loaded(), loaded()] == [0, 1]


def test_every_source_counts(tmp_path, monkeypatch):
    (tmp_path / "part").mkdir()
    seen = set()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "compiled.py"))
    for name, text in (("a.py", "1"), ("a.py", "2"), ("part/b.py", "1"), ("part/b.py", "2")):
        (tmp_path / name).write_text(text)
        seen.add(module._sources.__wrapped__())
    assert len(seen) == 4


def test_compiles_where_nothing_can_be_kept(loaded, monkeypatch):
    def refuse(self):
        raise RuntimeError("no locator available")

    monkeypatch.setattr("numba.core.dispatcher.Dispatcher.enable_caching", refuse)
    assert [loaded(), loaded()] == [0, 0]
