"""What the wheel holds, the build's one-sentence refusals, and what ``pangu info`` says."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import _distutils_hack
import pytest
import setuptools

import pangu_ops
from pangu_ops import info
from pangu_ops.backends import missing
from pangu_ops.schemas import OPS

ROOT = Path(__file__).parents[1]
USE_THE_WHEEL = """
import importlib.util, sys
sys.path.insert(0, "site")
import torch, pangu_ops, pangu_ops.triton_kernels
from pangu_ops.backends import current
rows, _, _ = torch.ops.pangu.moge_dispatch(torch.ones(3, 5), torch.zeros(3, 1, dtype=torch.int32), 2, 1)
print(pangu_ops.__file__, current(), rows.sum().item(), importlib.util.find_spec("triton_kernels"))
"""


def run_python(*arguments, python=sys.executable, cwd=ROOT, **environment):
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "CXX")} | environment
    return subprocess.run([python, *arguments], cwd=cwd, env=environment, text=True, capture_output=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in the checkout: whatever has been compiled for the installation is not compiled again."""
    folder = tmp_path_factory.mktemp("wheel")
    done = run_python("-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_nothing_beside_it(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    assert wheel.name.startswith(f"pangu_ops-{pangu_ops.__version__}-py3-none-linux_")
    # Above all no top-level triton_kernels: that name is OpenAI's.
    assert {name.split("/")[0] for name in names} == {"pangu_ops", f"pangu_ops-{pangu_ops.__version__}.dist-info"}
    modules = {str(path.relative_to(ROOT)) for path in ROOT.glob("pangu_ops/**/*.py")}
    modules |= {f"pangu_ops/{path.relative_to(ROOT)}" for path in ROOT.glob("triton_kernels/*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    for family in ("embedded", "pro_moe"):
        checkpoint = {str(path.relative_to(ROOT)) for path in ROOT.glob(f"pangu_ops/checkpoints/{family}/*")}
        assert f"pangu_ops/checkpoints/{family}/config.json" in checkpoint and checkpoint <= names
    assert "pangu_ops/thinking/difficulty.json" in names
    libraries = {name for name in names if name.endswith(".so")}
    assert "pangu_ops/lib/libpangu_generic.so" in libraries and all("pangu_ops/lib/" in name for name in libraries)


def test_wheel_works_from_where_it_is_unpacked(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = run_python("-c", USE_THE_WHEEL, cwd=tmp_path, PANGU_OPS_CPU_ISA="generic")
    assert done.stdout.split()[1:] == ["generic", "15.0", "None"], done.stderr
    assert (tmp_path / done.stdout.split()[0]).is_relative_to(tmp_path / "site")


def test_libraries_hold_no_path_of_this_machine(wheel):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        if name.endswith(".so"):
            content = archive.read(name)
            assert str(ROOT).encode() not in content and sys.prefix.encode() not in content


def test_library_is_really_unloaded(implementation):
    with pangu_ops.use("reference"):
        assert "libpangu_" not in Path("/proc/self/maps").read_text()


def refusal(**options):
    """What a build says that has to stop before it fetches or compiles anything."""
    done = run_python("setup.py", "--version", **options)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_build_without_torch_is_refused(tmp_path):
    venv.create(tmp_path / "venv")
    site = tmp_path / "site"
    site.mkdir()
    for package in (setuptools, _distutils_hack):
        (site / package.__name__).symlink_to(Path(package.__file__).parent)
    said = refusal(python=tmp_path / "venv/bin/python", PYTHONPATH=str(site))
    assert said.startswith("pangu_ops: torch 2.10 or later must be installed") and said.endswith("came none\n")


def test_build_finds_torch_in_the_user_site(tmp_path):
    """As in pip's isolated build, which hides the user's site, of an environment that sees the system's packages."""
    venv.create(tmp_path / "venv", system_site_packages=True)
    python, environment = tmp_path / "venv/bin/python", {"PYTHONUSERBASE": str(tmp_path), "PYTHONNOUSERSITE": "1"}
    if run_python("-c", "import torch", python=python, **environment).returncode == 0:
        pytest.skip("the system's Python has a torch, which comes first")
    user = run_python("-c", "import site; print(site.getusersitepackages())", python=python, **environment).stdout
    torch = Path(user.strip()) / "torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").touch()
    (torch / "version.py").write_text("__version__ = '2.9.1+cpu'\n")
    site = tmp_path / "site"
    site.mkdir()
    for package in (setuptools, _distutils_hack):
        (site / package.__name__).symlink_to(Path(package.__file__).parent)
    said = refusal(python=python, PYTHONPATH=str(site), **environment)
    assert said == f"pangu_ops: torch must be 2.10 or later, came 2.9 in {torch}\n"


def test_build_with_an_older_setuptools_is_refused(tmp_path):
    (tmp_path / "setuptools/command").mkdir(parents=True)
    (tmp_path / "setuptools/__init__.py").write_text("__version__ = '69.0'\nExtension = find_packages = setup = None")
    (tmp_path / "setuptools/command/__init__.py").touch()
    (tmp_path / "setuptools/command/build_ext.py").write_text("build_ext = object")
    assert refusal(PYTHONPATH=str(tmp_path)) == "pangu_ops: setuptools must be 77 or later, came 69.0\n"


def test_make_leaves_no_half_environment(tmp_path):
    python = tmp_path / "python"  # fails as where python3-venv is not installed: the folder is there, and no pip
    python.write_text(
        '#!/bin/sh\ncase "$*" in *venv*) mkdir -p "$3/bin"; touch "$3/bin/python"; exit 1;; esac; exit 1\n'
    )
    python.chmod(0o755)
    half = tmp_path / "env"
    done = subprocess.run(
        ["make", "demo", f"PYTHON={python}", f"VENV={half}"], cwd=ROOT, text=True, capture_output=True
    )
    assert done.returncode != 0 and "-m venv" in done.stdout and not half.exists()


def test_build_with_an_older_torch_is_refused(tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").touch()
    (tmp_path / "torch/version.py").write_text("__version__ = '2.9.1+cpu'\n")
    assert "torch must be 2.10 or later, came 2.9 in" in refusal(PYTHONPATH=str(tmp_path))


def test_build_without_a_compiler_is_refused(tmp_path):
    assert refusal(PATH=str(tmp_path)) == "pangu_ops: a C++ compiler must be installed, came none\n"
    said = refusal(CXX="/nonexistent/c++ -O1")
    assert said == "pangu_ops: a C++ compiler must be installed, came CXX=/nonexistent/c++ -O1, not found\n"


def test_info_says_what_each_op_runs(implementation):
    lines = info.report().splitlines()
    running = {line.split()[0]: line.split()[1] for line in lines if line.startswith(OPS)}
    assert set(running) == set(OPS)
    assert running["rms_norm"] == implementation
    assert set(running.values()) <= {implementation, "reference"}


def test_info_says_why_an_implementation_does_not_run():
    report = info.report()
    for name, reason in pangu_ops.implementations().items():
        assert reason == missing(name) and reason in report


@pytest.mark.parametrize("variable", info.ENVIRONMENT)
def test_info_shows_the_environment(variable, monkeypatch):
    monkeypatch.setenv(variable, "0")
    assert any(line.split()[:2] == [variable, "0"] for line in info.report().splitlines())
