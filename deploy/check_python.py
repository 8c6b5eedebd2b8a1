"""Can this interpreter run the project? Says in plain words what is missing, and the fix.

    python3 deploy/check_python.py            prints what is wrong, exits 1 if anything is
    python3 deploy/check_python.py --json     the facts (see `facts`), always exits 0

Written for any Python from 2.7 on: an interpreter that is too old must get a sentence, not a
SyntaxError. Hence no annotations, no f-strings.
"""
# ruff: noqa: UP010, UP031, PTH110, PTH118, PTH123

from __future__ import print_function

import json
import os
import subprocess
import sys
import sysconfig

SUPPORTED = ((3, 11), (3, 12))  # the versions the locks and the server's Python stubs are for


def version_name():
    """For example "3.12"."""
    return "%d.%d" % sys.version_info[:2]


def libpython_dir():
    """The folder that holds this interpreter's shared libpython, or None (a static build)."""
    name = "libpython%s.so.1.0" % version_name()
    libdir = sysconfig.get_config_var("LIBDIR") or ""
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    base = getattr(sys, "base_prefix", sys.prefix)
    for folder in (libdir, os.path.join(libdir, multiarch), os.path.join(base, "lib")):
        if folder and os.path.exists(os.path.join(folder, name)):
            return folder
    return None


def numpy_version():
    """The version of the numpy that this interpreter imports, or None."""
    try:
        from importlib.metadata import version

        return version("numpy")
    except Exception:  # not installed, or a Python without importlib.metadata
        return None


def facts():
    """What others ask about this interpreter, as a dictionary that JSON can hold."""
    return {
        "version": version_name(),
        "libpython_dir": libpython_dir(),
        "numpy": numpy_version(),
        "problems": problems(),
    }


def problems():
    """A list of sentences, each with its fix; empty if all is well."""
    if sys.version_info[:2] not in SUPPORTED:
        return [_wrong_version()]
    found = []
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        found.append(
            "Python %s cannot make virtual environments: module venv or ensurepip is missing.\n"
            "  Fix on Debian and Ubuntu: apt install python%s-venv" % ((version_name(),) * 2)
        )
    if sys.platform.startswith("linux") and libpython_dir() is None:
        found.append(_static_build())
    return found


def _wrong_version():
    others = ["python%d.%d" % pair for pair in reversed(SUPPORTED)]
    present = [name for name in others if _runs(name)]
    if present:
        fix = "make setup PYTHON=%s" % present[0]
    else:
        fix = "install Python 3.12 or 3.11 and name it: make setup PYTHON=/path/to/python3.12"
    return (
        "%s is Python %s; this project needs 3.11 or 3.12: its packages are locked for these, and\n"
        "Triton's Python backend needs a helper built for the interpreter's version.\n"
        "  Fix: %s" % (sys.executable, version_name(), fix)
    )


def _static_build():
    return (
        "Python {v} ({exe}) has no shared library libpython{v}.so.1.0, which Triton's Python\n"
        "backend loads.\n"
        "  Fix on Debian and Ubuntu: apt install libpython{v}\n"
        "  Fix with pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install --force {v}\n"
        "  Or name another interpreter: make setup PYTHON=/path/to/python{v}"
    ).format(v=version_name(), exe=sys.executable)


def _runs(name):
    # tried rather than looked up: a version switcher's shim may lie there and do nothing
    with open(os.devnull, "w") as nowhere:
        try:
            return subprocess.call([name, "-c", ""], stdout=nowhere, stderr=nowhere) == 0
        except OSError:
            return False


def main():
    if "--json" in sys.argv[1:]:
        print(json.dumps(facts()))
        return 0
    found = problems()
    for sentence in found:
        print(sentence, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
