import ast
import itertools
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
METHOD_ONLY = {"safevla", "torch", "transformers", "stable_baselines3", "safetensors"}


def run(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT / "tests",
        env={**os.environ, **env},
        timeout=120,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*command, str(ROOT)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.whl")
    return path


def test_wheel_holds_both_packages_with_assets_and_configs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package, folder in (("safevla_envs", "envs/safevla_envs"), ("safevla", "safevla")):
        sources = [p for p in (ROOT / folder).rglob("*.*") if "__pycache__" not in p.parts]
        assert {p.suffix for p in sources} >= {".py", ".typed"}
        for source in sources:
            assert f"{package}/{source.relative_to(ROOT / folder).as_posix()}" in names
    for folder in ("assets", "configs"):
        files = [p for p in (ROOT / folder).rglob("*") if p.is_file()]
        assert files
        for source in files:
            assert f"safevla_envs/_data/{source.relative_to(ROOT).as_posix()}" in names
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"safevla", "safevla_envs"}
    licences = {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "THIRD_PARTY_NOTICES.md"}


def test_installed_wheel_finds_its_data_outside_the_checkout(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import safevla_envs.resources as r; print(r.data_root()); "
        "print((r.configs_dir() / 'isa/quick.yaml').is_file())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.stdout.split() == [str(tmp_path / "site/safevla_envs/_data"), "True"], done.stderr


def test_importing_the_benchmark_is_light():
    done = run(
        "import sys, safevla_envs, gymnasium; "
        "heavy = {'mujoco', 'robosuite', 'torch', 'transformers', 'safevla'} & set(sys.modules); "
        "print(sorted(heavy), 'SafeVLA/ObjNav-v0' in gymnasium.registry)"
    )
    assert done.stdout.strip() == "[] True", done.stderr


def test_the_method_imports_without_torch():
    blocked = "import sys\nfor name in ('torch', 'transformers', 'stable_baselines3'):\n"
    blocked += "    sys.modules[name] = None\n"
    done = run(f"{blocked}import safevla, safevla.cli\nprint(safevla.__version__)")
    assert done.stdout.strip() == PYPROJECT["project"]["version"], done.stderr
    assert "mujoco" not in run("import safevla.cli, sys; print(*sys.modules)").stdout.split()


def imported_names(source):
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def test_the_benchmark_never_imports_the_method():
    sources = list((ROOT / "envs").rglob("*.py"))
    assert len(sources) > 5
    # adapters may offer other people's interfaces, yet must not need their packages at import
    for source in sources:
        found = {name.split(".")[0] for name in imported_names(source)} & METHOD_ONLY
        assert not found, f"{source.relative_to(ROOT)} imports {found}"


def test_lock_is_exact_portable_and_satisfies_the_declared_ranges():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [
        line
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    pins = {}
    for line in lines:
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9][0-9a-z.]*)", line)
        assert match, f"not an exact, portable pin: {line}"
        pins[canonicalize_name(match[1])] = match[2]
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    for text in (*project["dependencies"], *itertools.chain(*extras)):
        requirement = Requirement(text)
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), f"{text} does not allow {pin}"
    assert not [name for name in pins if name.startswith(("nvidia", "triton", "cuda"))]
    assert pins["mujoco"] == "3.9.0" and pins["torch"] == "2.13.0"


def test_gl_check_needs_the_standard_library_only():
    script = ROOT / "envs/safevla_envs/render/gl.py"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(script), "--check"], capture_output=True, text=True
    )
    assert done.stdout.strip() == "OpenGL libraries are installed.", done.stdout + done.stderr


@pytest.mark.parametrize(("missing_gl", "euid"), [(True, 0), (True, 1000), (False, 0)])
def test_gl_check_prints_the_commands_and_respects_the_user(missing_gl, euid):
    code = f"""
import os, subprocess
import safevla_envs.render.gl as gl
os.geteuid = lambda: {euid}
gl.missing_libraries = lambda: ("libEGL.so.1",) if {missing_gl} else ()
gl.usable_backends = lambda: () if {missing_gl} else ("egl",)
subprocess.run = lambda *a, **k: print("RAN", a)
print("exit", gl._main())
"""
    done = run(code, SAFEVLA_NO_APT="1")
    assert "RAN" not in done.stdout
    if missing_gl:
        assert "apt-get install -y libegl1 libegl-mesa0" in done.stdout
        assert "dnf install -y libglvnd-egl" in done.stdout
        assert done.stdout.endswith("exit 1\n")
    else:
        assert done.stdout.endswith("exit 0\n"), done.stderr


CHOICE = """
import sys
import safevla_envs.render.gl as gl
if {early}:
    import mujoco
try:
    print(gl.configure_gl())
except RuntimeError as error:
    print("RuntimeError", error)
    sys.exit()
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="1 1 .1" rgba="1 0 0 1"/>'
    '</worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    print(renderer.render()[..., 0].mean() > 30)
"""


@pytest.mark.parametrize("early", [False, True])
def test_gl_is_chosen_even_if_mujoco_was_imported_before(early):
    done = run(CHOICE.format(early=early), MUJOCO_GL="")
    assert done.stdout.split() in (["egl", "True"], ["osmesa", "True"]), done.stderr


def test_users_choice_of_gl_wins():
    done = run("import safevla_envs.render.gl as gl; print(gl.configure_gl())", MUJOCO_GL="osmesa")
    assert done.stdout.split() == ["osmesa"], done.stderr
    done = run(CHOICE.format(early=False), MUJOCO_GL="disable")
    assert "rendering is off (MUJOCO_GL='disable')" in done.stdout


def test_simulating_without_cameras_never_touches_gl():
    code = """
import sys, gymnasium
env = gymnasium.make("safevla_envs:SafeVLA/ObjNav-v0", cameras=())
env.reset(seed=0)
env.step(0)
print([m for m in sys.modules if m.startswith("OpenGL.") or m in ("mujoco.egl", "mujoco.osmesa")])
"""
    done = run(code, MUJOCO_GL="disable")
    assert done.stdout.strip() == "[]", done.stderr
