"""Fetches of torch_npu's wheel what tests read: its headers, and the schemas of its operators.

Usage: python fetch.py VERSION FOLDER. Headers and schemas are the same in the wheels for every machine and Python.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = ["--python-version", "3.11", "--platform", "manylinux_2_28_x86_64", "--only-binary", ":all:", "--no-deps"]


def fetch(version, folder):
    with tempfile.TemporaryDirectory() as downloads:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--retries", "2", "--dest", downloads, *WHEEL]
        if subprocess.run([*pip, f"torch-npu=={version}"]).returncode:
            sys.exit("torch_npu's wheel could not be fetched: tests that read it will be skipped")
        with zipfile.ZipFile(next(Path(downloads).glob("*.whl"))) as wheel:
            new = folder.with_name(folder.name + ".new")
            shutil.rmtree(new, ignore_errors=True)
            wheel.extractall(new, [name for name in wheel.namelist() if name.startswith("torch_npu/include/")])
            library = wheel.read("torch_npu/lib/libtorch_npu.so")
    schemas = set(re.findall(rb"(?<=\0)\w+(?:\.\w+)?\([^\0\n]*\) -> [^\0\n]+(?=\0)", library))
    (new / "schemas.txt").write_bytes(b"\n".join(sorted(schemas)) + b"\n")
    new.rename(folder)


if __name__ == "__main__":
    fetch(sys.argv[1], Path(sys.argv[2]))
