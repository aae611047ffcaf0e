"""What processes must have alike for one to do another's work: code, packages, and variables that act at a start."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

_ROOT, _PACKAGES = Path(__file__).parents[2], ("jobs", "orchestrator", "tuning")
_AT_START = (
    *("PYTHON", "LD_", "OMP_", "GOMP_", "MKL_", "OPENBLAS_", "MALLOC_", "GLIBC_", "TORCH", "PYTORCH_", "FSSPEC_"),
    *("CUDA_VISIBLE", "NVIDIA_VISIBLE", "HIP_VISIBLE", "ROCR_VISIBLE", "RAY_"),
)
"""Variables that act when a process starts or imports, or that Ray sets for its workers: they cannot be passed to those
of a cluster that is up already."""
_PASSED = ("TORCHINDUCTOR_CACHE_DIR", "TORCH_HOME")
"""Those of such names that act later, so that they can be."""
_OF_RAY = ("PYTHONBREAKPOINT", "RAY_AUTH_", "RAY_CLIENT_MODE", "RAY_JOB_CONFIG_", "RAY_USAGE_STATS_")
_OF_SHELLS = ("PYTHONSTARTUP", "PYTHON_BASIC_REPL")


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that act at the start of a process."""
    others = _OF_RAY + _OF_SHELLS
    return {name: value for name, value in environment.items() if fixed(name) and not name.startswith(others)}


def fixed(name: str) -> bool:
    """Whether a variable acts at the start of a process, so that it cannot be passed to one that runs."""
    return name.startswith(_AT_START) and name not in _PASSED


def code() -> list[str]:
    """Which code this process runs: folder of the package, Python's folder, and a digest of the files of the one and of
    the packages of the other (the processes of the cluster have imported both already).
    """
    found = [path for name in _PACKAGES for path in (_ROOT / name).rglob("[!.]*.py")]  # Emacs' locks have a dot
    for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        found += Path(installed).glob("*.dist-info")
    stamps = sorted((str(path), path.stat().st_mtime_ns) for path in found)
    digest = hashlib.blake2b(repr((sys.version, stamps)).encode(), digest_size=8)
    return [str(_ROOT), sys.prefix, digest.hexdigest()]
