"""What this machine offers: versions, OpenGL, GPU, cores, memory; `safevla doctor` prints it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata

from safevla_envs.render.gl import install_command, missing_libraries, usable_backends

__all__ = ["Diagnosis", "diagnose", "render_probe"]

PACKAGES = (
    "safevla",
    "mujoco",
    "robosuite",
    "numpy",
    "gymnasium",
    "omegaconf",
    "torch",
    "transformers",
    "stable-baselines3",
)

_PROBE = """
import json, sys, time
from safevla_envs.render.gl import configure_gl
backend = configure_gl()
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="1 1 .1" rgba="1 0 0 1"/>'
    '</worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
start = time.perf_counter()
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
frame = renderer.render()
seconds = time.perf_counter() - start
name = version = None
try:
    from OpenGL import GL
    name = GL.glGetString(GL.GL_RENDERER).decode()
    version = GL.glGetString(GL.GL_VERSION).decode()
except Exception as error:
    name = f"unknown ({error})"
red = float(frame[..., 0].mean()) - float(frame[..., 1].mean())
renderer.close()
print("PROBE" + json.dumps(dict(backend=backend, device=name, version=version,
                                seconds=round(seconds, 2), drawn=red > 10)))
"""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Findings about this machine, and what has to be mended, each with its remedy."""

    rows: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]


def diagnose() -> Diagnosis:
    """Looks at versions, hardware and OpenGL; renders one frame in a process of its own."""
    rows = [("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")]
    problems = []
    for name in PACKAGES:
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append((name, 'not installed (pip install "safevla[train]")'))
    rows += [("cores", _cores()), ("memory", _memory()), ("GPU", _gpu())]
    missing = missing_libraries()
    if missing:
        problems.append(f"missing {', '.join(missing)}; run: {install_command()}")
    rows.append(("OpenGL backends", ", ".join(usable_backends()) or "none"))
    rows.append(("MUJOCO_GL", os.environ.get("MUJOCO_GL") or "unset (chosen automatically)"))
    try:
        probe = render_probe()
        rows.append(("rendering", f"{probe['backend']}: {probe['device']}, {probe['version']}"))
        rows.append(("first frame", f"{probe['seconds']} s"))
    except RuntimeError as error:
        rows.append(("rendering", "fails"))
        problems.append(f"rendering fails: {error}")
    return Diagnosis(rows=tuple(rows), problems=tuple(problems))


def render_probe(timeout: float = 120.0) -> dict:
    """Renders one frame in a subprocess, since a broken driver may end the process.

    Returns:
        `backend`, `device`, `version`, `seconds`.

    Raises:
        RuntimeError: no frame, or a blank one; says why.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no frame within {timeout:.0f} s") from None
    for line in done.stdout.splitlines():
        if line.startswith("PROBE"):
            found = json.loads(line.removeprefix("PROBE"))
            if found["drawn"]:
                return found
            raise RuntimeError(f"{found['backend']} renders blank frames")
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    raise RuntimeError(lines[-1] if lines else f"exit code {done.returncode}")


def _cores() -> str:
    from safevla.workers import usable_cores

    return f"{usable_cores()} usable of {os.cpu_count()}"


def _memory() -> str:
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        free = os.sysconf("SC_AVPHYS_PAGES")
    except (ValueError, OSError):
        return "unknown"
    return f"{pages * size / 2**30:.1f} GiB, {free * size / 2**30:.1f} GiB free"


def _gpu() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "none found"
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "nvidia-smi does not answer"
    return "; ".join(done.stdout.strip().splitlines()) or "none found"
