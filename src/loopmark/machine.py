"""Facts about the machine, the interpreter and the libraries, for a campaign's record.

Everything is best effort: what cannot be read is None or missing, on any system. No host name, no user name and no path
is ever part of it. Files of the kernel are read below a root that tests can put elsewhere.
"""

import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

SYSCTLS = (
    "kernel/randomize_va_space",
    "net/core/netdev_max_backlog",
    "net/core/rmem_max",
    "net/core/somaxconn",
    "net/core/wmem_max",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_rmem",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_wmem",
)
"""What decides how many connections can be opened, and how fast; names as below /proc/sys."""


def describe(distributions: Iterable[str] = (), *, root: Path = Path("/")) -> dict[str, Any]:
    """Return the facts as plain JSON data; `distributions` are the packages whose versions belong to the results."""
    return {
        "cpu": _cpu(root),
        "memory_mib": _memory_mib(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine() or None,
        "virtualisation": _virtualisation(root),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "python": _python(),
        "openssl": ssl.OPENSSL_VERSION,
        "malloc": _malloc(os.environ),
        "sysctls": _sysctls(root),
        "versions": _versions(distributions),
        "source": _source(Path(__file__).resolve().parents[2]),
    }


def default_label(facts: Mapping[str, Any]) -> str:
    """Name a machine by its processor and the number of its cores, such as `amd-epyc-2-cores`."""
    cpu = facts.get("cpu") or {}
    model = cpu.get("model") or facts.get("architecture") or "machine"
    model = re.sub(r"\(R\)|\(TM\)|\(C\)|@.*|\b\d+-core\b|\b(cpu|processor)\b", " ", model, flags=re.IGNORECASE)
    words = re.findall(r"[a-z0-9]+", model.lower()) or ["machine"]
    cores = cpu.get("physical_cores") or cpu.get("logical_cores")
    if cores:
        words += [str(cores), "core" if cores == 1 else "cores"]
    return "-".join(words)


def warnings(facts: Mapping[str, Any]) -> list[str]:
    """Return one sentence for each fact that makes the numbers mean less than a reader would think."""
    python, cpu = facts.get("python") or {}, facts.get("cpu") or {}
    found = []
    if python.get("debug"):
        found.append("The interpreter is a debug build: its times say nothing about a release build.")
    if python.get("pgo") is False:
        found.append(
            "The interpreter was built without profile-guided optimisation (--enable-optimizations): what is written "
            "in Python costs more here than with most distributed builds, compiled libraries do not."
        )
    if cpu.get("logical_cores") == 1:
        found.append("There is one core only: client and server always share it.")
    governor = cpu.get("governor")
    if governor in {"powersave", "ondemand", "conservative"}:
        found.append(f"The CPU frequency governor is {governor}: absolute times depend on how busy the machine was.")
    if (facts.get("source") or {}).get("clean") is False:
        found.append("The checkout had changes that are not committed: its revision does not tell what ran.")
    return found


def _cpu(root: Path) -> dict[str, Any]:
    import psutil  # noqa: PLC0415 - processes that are measured may import this module, and psutil is not theirs

    below = root / "sys/devices/system/cpu"
    return {
        "model": _cpu_model(root),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(logical=True),
        "usable_cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        "governor": _read(below / "cpu0/cpufreq/scaling_governor"),
        "turbo": _turbo(below),
        "smt": _read(below / "smt/active"),
    }


def _cpu_model(root: Path) -> str | None:
    for line in (_read(root / "proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model", "cpu model"} and value.strip():
            return " ".join(value.split())
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string")
    return platform.processor() or None


def _turbo(below: Path) -> bool | None:
    no_turbo, boost = _read(below / "intel_pstate/no_turbo"), _read(below / "cpufreq/boost")
    if no_turbo is not None:
        return no_turbo == "0"
    return None if boost is None else boost == "1"


def _memory_mib() -> int:
    import psutil  # noqa: PLC0415 - as above

    return int(psutil.virtual_memory().total) // 2**20


def _virtualisation(root: Path) -> str | None:
    """Tell who is below us, as far as it can be seen; None means that nothing was seen, not that nothing is there."""
    kind = _read(root / "sys/hypervisor/type")
    if kind:
        return kind
    vendor = _read(root / "sys/class/dmi/id/sys_vendor") or ""
    product = _read(root / "sys/class/dmi/id/product_name") or ""
    for mark in ("QEMU", "KVM", "VMware", "VirtualBox", "Xen", "Amazon EC2", "Google", "Virtual Machine"):
        if mark.lower() in f"{vendor} {product}".lower():
            return mark
    flags = re.search(r"^flags\s*:(.*)$", _read(root / "proc/cpuinfo") or "", flags=re.MULTILINE)
    return "hypervisor" if flags and "hypervisor" in flags[1].split() else None


def _python() -> dict[str, Any]:
    arguments = sysconfig.get_config_var("CONFIG_ARGS")
    # Words of the build only: the arguments themselves hold the paths of whoever built it.
    flags = " ".join(str(sysconfig.get_config_var(name) or "") for name in ("PY_CORE_CFLAGS", "PY_CORE_LDFLAGS"))
    gil = getattr(sys, "_is_gil_enabled", None)
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "compiler": " ".join(platform.python_compiler().split()) or None,
        "pgo": None if arguments is None else "--enable-optimizations" in arguments or "-fprofile-use" in flags,
        "lto": None if arguments is None else "--with-lto" in arguments or "-flto" in flags,
        "debug": bool(sysconfig.get_config_var("Py_DEBUG")),
        "gil": None if gil is None else bool(gil()),
    }


def _malloc(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the allocators; glibc's tunables without those that are about something else."""
    found = {name: value for name, value in environment.items() if name.startswith("MALLOC_") or name == "PYTHONMALLOC"}
    tunables = [each for each in environment.get("GLIBC_TUNABLES", "").split(":") if each.startswith("glibc.malloc.")]
    if tunables:
        found["GLIBC_TUNABLES"] = ":".join(tunables)
    if environment.get("LD_PRELOAD"):
        # Its value is a path; that something is preloaded is what matters.
        found["LD_PRELOAD"] = "set"
    return dict(sorted(found.items()))


def _sysctls(root: Path) -> dict[str, str]:
    values = {name.replace("/", "."): _read(root / "proc/sys" / name) for name in SYSCTLS}
    return {name: " ".join(value.split()) for name, value in values.items() if value is not None}


def _versions(distributions: Iterable[str]) -> dict[str, str]:
    versions = {}
    for name in sorted({"loopmark", "pyperf", *distributions}):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _source(checkout: Path) -> dict[str, Any] | None:
    """Return the revision of the checkout that runs, None when this is no checkout or git is missing."""
    if not (checkout / "pyproject.toml").is_file():
        return None
    revision = _output("git", "-C", str(checkout), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(checkout), "status", "--porcelain", "--untracked-files=no")
    if revision is None or changes is None:
        return None
    return {"revision": revision, "clean": not changes}


def _output(program: str, *arguments: str) -> str | None:
    found = shutil.which(program)
    if found is None:
        return None
    try:
        done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or None
    except OSError:
        return None
