"""Resumable stages of a run folder.

A stage is *done* when `stages/<name>.json` says so and still tells the truth: same configuration,
same package versions, same input files, and the output files it lists are there with the same
hashes. A stage that was interrupted left a manifest with `finished: null`; it goes on from what is
on disk if configuration, versions and inputs are the same. Results made with other settings, or
edited since, are never overwritten unless forced; results that were deleted are made again.
"""

from __future__ import annotations

import json
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from safevla.files import digest, plain, read_json, remove, write_json

__all__ = ["Stage", "StageConflict", "StageRunner", "package_versions"]

_VERSIONED = ("safevla", "mujoco", "robosuite", "numpy", "gymnasium", "torch", "transformers")


VOLATILE = ("events.out.tfevents", "log.txt")
"""Beginnings of the names of files inside outputs that are not results (logs)."""


class StageConflict(ValueError):
    """A stage would overwrite results that were made with something else."""


def package_versions() -> dict[str, str]:
    """Returns the versions that a stage's results may depend on."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in _VERSIONED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a run, which goes on from a partial result by itself.

    `config` is what the results depend on; files and folders are relative to the run folder.
    """

    name: str
    config: dict[str, Any]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...]
    run: Callable[[], Any] = field(compare=False)


@dataclass
class StageRunner:
    """Runs stages of one run folder and keeps their manifests.

    `force` throws away a stage's results where they were made with something else.
    """

    folder: Path
    _: KW_ONLY
    force: bool = False
    versions: dict[str, str] = field(default_factory=package_versions)
    seconds: dict[str, float] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)

    def manifest(self, name: str) -> dict[str, Any] | None:
        """Returns a stage's manifest, or None if it never started."""
        path = self._path(name)
        try:
            return read_json(path)
        except ValueError:
            raise StageConflict(f"{path} is damaged; delete it or choose another --name") from None

    def check(self, stages: Iterable[Stage]) -> None:
        """Refuses, before anything runs, what would overwrite results of other settings.

        Raises:
            StageConflict: in one line, naming the first setting that differs.
        """
        if self.force:
            return
        for stage in stages:
            manifest = self.manifest(stage.name)
            if manifest is None:
                continue
            for part, mine in (("config", stage.config), ("versions", self.versions)):
                if manifest[part] != plain(mine):
                    state = "finished" if manifest["finished"] else "started"
                    raise StageConflict(
                        f"stage {stage.name!r} of {self.folder} was {state} with another setting: "
                        f"{_first_difference(manifest[part], mine)}; choose another --name, or "
                        "--force to throw its results away"
                    )
            present = self._hashes(stage.outputs)
            for path, digits in manifest["outputs"].items():
                if present.get(path, digits) != digits:
                    raise StageConflict(
                        f"{self.folder / path} was changed after stage {stage.name!r} wrote it; "
                        "choose another --name, or --force to make it again"
                    )

    def is_done(self, stage: Stage) -> bool:
        """Says whether the stage's results are there and were made from the present inputs."""
        manifest = self.manifest(stage.name)
        if manifest is None or manifest["finished"] is None:
            return False
        present = self._hashes(stage.outputs)
        return self._alike(manifest, stage) and manifest["outputs"].items() <= present.items()

    def _alike(self, manifest: dict[str, Any], stage: Stage) -> bool:
        """Says whether a manifest is of the present configuration, versions and inputs."""
        inputs = self._hashes(stage.inputs)
        now = {"config": plain(stage.config), "versions": self.versions, "inputs": inputs}
        return all(manifest[name] == value for name, value in now.items())

    def adopt(self, stage: Stage, other: StageRunner) -> bool:
        """Copies another run's results of a stage that is done there and was never started here.

        Configuration, versions and inputs must be the same here. Returns whether they were.
        """
        if self.manifest(stage.name) is not None or not other.is_done(stage):
            return False
        manifest = other.manifest(stage.name)
        if manifest is None or not self._alike(manifest, stage):
            return False
        for path in manifest["outputs"]:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(other.folder / path, self.folder / path)
        write_json(self._path(stage.name), manifest)
        return True

    def begin(self, stage: Stage) -> None:
        """Marks a stage as started; clears outputs that come from other settings or inputs."""
        self.check([stage])
        inputs = self._hashes(stage.inputs)
        missing = [path for path in stage.inputs if not (self.folder / path).exists()]
        if missing:
            raise StageConflict(f"stage {stage.name!r} needs {self.folder / missing[0]}, not found")
        old = self.manifest(stage.name)
        resumable = old is not None and old["finished"] is None and self._alike(old, stage)
        if not resumable:
            for path in stage.outputs:
                remove(self.folder / path)
        spent = float(old["seconds"]) if old is not None and resumable else 0.0
        self._write(stage, inputs=inputs, outputs={}, seconds=spent, finished=None)
        self._started[stage.name] = time.monotonic() - spent

    def finish(self, stage: Stage) -> float:
        """Marks a stage as done and returns its wall time in seconds, earlier tries included."""
        manifest = self.manifest(stage.name)
        assert manifest is not None, "begin comes before finish"
        total = time.monotonic() - self._started[stage.name]
        outputs = self._hashes(stage.outputs)
        if not outputs:
            raise RuntimeError(f"stage {stage.name!r} wrote none of {', '.join(stage.outputs)}")
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._write(
            stage, inputs=manifest["inputs"], outputs=outputs, seconds=total, finished=stamp
        )
        self.seconds[stage.name] = total
        return total

    def pause(self, stage: Stage) -> None:
        """Notes the time spent on a stage that did not finish."""
        manifest = self.manifest(stage.name)
        if manifest is not None and manifest["finished"] is None:
            spent = time.monotonic() - self._started[stage.name]
            self._write(stage, inputs=manifest["inputs"], outputs={}, seconds=spent, finished=None)

    def rehash(self, name: str, outputs: Sequence[str]) -> None:
        """Takes over a finished stage's outputs as they are now: they were rebuilt on purpose."""
        manifest = self.manifest(name)
        if manifest is not None and manifest["finished"]:
            manifest["outputs"] = self._hashes(outputs)
            write_json(self._path(name), manifest)

    def run(self, stage: Stage) -> bool:
        """Runs a stage unless it is done; returns whether it ran."""
        if self.is_done(stage):
            self.seconds[stage.name] = float((self.manifest(stage.name) or {})["seconds"])
            return False
        self.begin(stage)
        try:
            stage.run()
        except BaseException:
            self.pause(stage)
            raise
        self.finish(stage)
        return True

    def _hashes(self, paths: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in paths:
            root = self.folder / path
            files = sorted(root.rglob("*")) if root.is_dir() else [root]
            for file in files:
                if file.is_file() and not file.name.startswith(VOLATILE):
                    name = file.relative_to(self.folder).as_posix()
                    found[name] = digest(file.read_bytes())
        return found

    def _write(self, stage: Stage, **fields: Any) -> None:
        head = {"stage": stage.name, "config": stage.config, "versions": self.versions}
        write_json(self._path(stage.name), head | fields)

    def _path(self, name: str) -> Path:
        return self.folder / "stages" / f"{name}.json"


def _first_difference(old: Any, new: Any, path: str = "") -> str:
    """Names the first value that differs, as `a.b: 1 then, 2 now`."""
    new = plain(new)
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            if old.get(key) != new.get(key):
                name = f"{path}.{key}" if path else key
                return _first_difference(old.get(key), new.get(key), name)
    return f"{path} was {json.dumps(old)}, is now {json.dumps(new)}"
