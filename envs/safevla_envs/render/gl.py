"""Chooses MuJoCo's off-screen OpenGL backend, and finds missing system OpenGL libraries.

Standard library only: `python -I envs/safevla_envs/render/gl.py` also runs before any package is
installed (the Makefile's first step). Only code that renders calls `configure_gl`; simulating
without cameras never touches OpenGL.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys

__all__ = ["BACKENDS", "configure_gl", "install_command", "missing_libraries", "usable_backends"]

BACKENDS = ("egl", "osmesa", "glfw")
"""Values of `MUJOCO_GL` that can render, in the order in which they are recommended."""

_DISABLED = ("disable", "disabled", "off", "false", "0")
# robosuite's import needs libGL.so.1 too (opencv-python is linked against it)
_APT = ("libegl1", "libegl-mesa0", "libgl1", "libgl1-mesa-dri", "libgles2")
_DNF = ("libglvnd-egl", "libglvnd-gles", "libglvnd-glx", "mesa-libEGL", "mesa-dri-drivers")
_OSMESA = ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")


def configure_gl() -> str:
    """Sets `MUJOCO_GL` for this process, if the user has not, and returns the backend's name.

    EGL (a GPU, or Mesa's software rasteriser) is preferred to OSMesa. Call it before the first
    `import mujoco`; if MuJoCo was imported earlier with no choice made, its context class is
    exchanged. Idempotent and cheap.

    Raises:
        RuntimeError: if no OpenGL library is installed, or `MUJOCO_GL` switches rendering off;
            the message tells the command that mends it.
    """
    # llvmpipe's own threads gain nothing for small frames and steal cores from other processes
    os.environ.setdefault("LP_NUM_THREADS", "0")
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if chosen in _DISABLED:
        raise RuntimeError(
            f"rendering is off (MUJOCO_GL={chosen!r}): unset MUJOCO_GL or set it to one of "
            f"{', '.join(BACKENDS)}, or use cameras=() for state only"
        )
    if chosen:
        return chosen
    backends = usable_backends()
    if not backends:
        raise RuntimeError(
            f"no OpenGL library for off-screen rendering was found; run: {install_command()}"
        )
    os.environ["MUJOCO_GL"] = backends[0]
    _exchange_context_class(backends[0])
    return backends[0]


def _exchange_context_class(backend: str) -> None:
    """Gives an already imported MuJoCo, which chose GLFW by default, the given backend."""
    module = sys.modules.get("mujoco.rendering.classic.gl_context")
    if module is None:
        return
    if backend == "egl":
        from mujoco.egl import GLContext
    else:
        from mujoco.osmesa import GLContext
    module.__dict__["GLContext"] = GLContext


def usable_backends() -> tuple[str, ...]:
    """Returns the off-screen backends that this machine's libraries offer, best first."""
    found = []
    if _egl_devices() > 0:
        found.append("egl")
    if _loads(*_OSMESA):
        found.append("osmesa")
    return tuple(found)


def missing_libraries() -> tuple[str, ...]:
    """Returns the system libraries that are needed to simulate and render, but do not load."""
    missing = [] if _loads("libGL.so.1") else ["libGL.so.1"]
    if not usable_backends():
        missing.append("libEGL.so.1 with a driver" if _loads("libEGL.so.1") else "libEGL.so.1")
    return tuple(missing)


def install_command() -> str:
    """Returns the commands that install the libraries on Debian/Ubuntu and on Fedora."""
    return (
        f"apt-get install -y {' '.join(_APT)}   (Debian, Ubuntu)   or   "
        f"dnf install -y {' '.join(_DNF)}   (Fedora)"
    )


def _loads(*names: str) -> bool:
    for name in names:
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


def _egl_devices() -> int:
    """Counts EGL devices the way MuJoCo's context does; Mesa lists its software rasteriser."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return 0
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return 0
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
    )
    count = ctypes.c_int(0)
    ok = prototype(address)(0, None, ctypes.byref(count))
    return count.value if ok else 0


def _main() -> int:
    """Checks the libraries; installs them where the user is root and apt-get exists."""
    missing = missing_libraries()
    if missing:
        print(f"Missing system libraries: {', '.join(missing)}")
        print(f"  Debian, Ubuntu:  apt-get update && apt-get install -y {' '.join(_APT)}")
        print(f"  Fedora:          dnf install -y {' '.join(_DNF)}")
        if os.environ.get("SAFEVLA_NO_APT") == "1":
            print("SAFEVLA_NO_APT=1: nothing was installed.")
        elif os.geteuid() != 0 or shutil.which("apt-get") is None:
            print("Run the command above as root, then start again.")
        else:
            print("Installing them now (SAFEVLA_NO_APT=1 prevents this).", flush=True)
            env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
            subprocess.run(["apt-get", "update", "-qq"], check=False, env=env)
            subprocess.run(["apt-get", "install", "-y", "-qq", *_APT], check=False, env=env)
            # a fresh process: libraries that failed to load may have left half of themselves here
            check = [sys.executable, "-I", __file__, "--check"]
            return subprocess.run(check, check=False).returncode
        return 1
    backends = usable_backends()
    print(
        f"OpenGL: {', '.join(backends)} usable, {os.environ.get('MUJOCO_GL') or backends[0]} used"
    )
    return 0


def _check() -> int:
    missing = missing_libraries()
    print(f"Still missing: {', '.join(missing)}" if missing else "OpenGL libraries are installed.")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(_check() if "--check" in sys.argv[1:] else _main())
