import getpass
import json
import platform
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from loopmark import machine


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return machine.describe(["pytest", "no-such-distribution"])


def put(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_the_facts_are_plain_json(facts: dict[str, Any]) -> None:
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_the_facts_name_interpreter_and_openssl(facts: dict[str, Any]) -> None:
    assert facts["python"]["version"] == platform.python_version()
    assert facts["openssl"] == ssl.OPENSSL_VERSION
    assert facts["memory_mib"] > 0


def test_versions_are_those_asked_for_and_installed(facts: dict[str, Any]) -> None:
    assert facts["versions"]["pytest"] == pytest.__version__
    assert "pyperf" in facts["versions"]
    assert "no-such-distribution" not in facts["versions"]


def test_the_facts_hold_no_path_and_no_name(facts: dict[str, Any]) -> None:
    text = json.dumps(facts)
    assert not re.search(r"/(home|root|usr|opt|tmp|work|Users)\b", text)
    assert str(Path.home()) not in text
    words = set(re.findall(r"[\w.-]+", text))
    assert socket.gethostname() not in words
    assert getpass.getuser() not in words


def test_nothing_readable_still_gives_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    facts = machine.describe(root=tmp_path)
    assert facts["sysctls"] == {}
    assert facts["virtualisation"] is None
    assert facts["source"] is None
    assert facts["cpu"]["governor"] is None


def test_what_the_kernel_tells_is_read(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Some  CPU @ 2GHz\nflags\t\t: fpu hypervisor sse\n")
    put(tmp_path, "proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    put(tmp_path, "sys/devices/system/cpu/intel_pstate/no_turbo", "1\n")
    facts = machine.describe(root=tmp_path)
    assert facts["cpu"]["model"] == "Some CPU @ 2GHz"
    assert facts["cpu"]["governor"] == "performance"
    assert facts["cpu"]["turbo"] is False
    assert facts["virtualisation"] == "hypervisor"
    assert facts["sysctls"] == {"net.ipv4.ip_local_port_range": "32768 60999"}


def test_a_maker_that_sells_no_hardware_is_a_hypervisor(tmp_path: Path) -> None:
    put(tmp_path, "sys/class/dmi/id/sys_vendor", "QEMU\n")
    assert machine.describe(root=tmp_path)["virtualisation"] == "QEMU"


def test_malloc_settings_are_kept_without_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "67108864")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.cpu.x86_shstk=on")
    monkeypatch.setenv("LD_PRELOAD", "")
    malloc = machine.describe()["malloc"]
    assert malloc["MALLOC_TRIM_THRESHOLD_"] == "67108864"
    assert malloc["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=1"
    assert "LD_PRELOAD" not in malloc


def test_a_preloaded_library_is_told_without_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Set in our own environment only: no process is started with it.
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "libjemalloc.so"))
    assert machine.describe()["malloc"]["LD_PRELOAD"] == "set"


@pytest.mark.parametrize(
    ("configured", "flags", "pgo", "lto"),
    [
        ("'--prefix=/opt/x' '--enable-optimizations' '--with-lto'", "", True, True),
        ("'--prefix=/opt/x'", "-O3 -fprofile-use", True, False),
        ("'--prefix=/opt/x'", "-O3", False, False),
        (None, "", None, None),
    ],
)
def test_build_flags_are_told_as_words(
    configured: str | None, flags: str, pgo: bool | None, lto: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"CONFIG_ARGS": configured, "PY_CORE_CFLAGS": flags}
    monkeypatch.setattr("sysconfig.get_config_var", known.get)
    python = machine.describe()["python"]
    assert (python["pgo"], python["lto"]) == (pgo, lto)
    assert "/opt" not in json.dumps(python)


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ({"cpu": {"model": "AMD EPYC", "physical_cores": 2, "logical_cores": 4}}, "amd-epyc-2-cores"),
        ({"cpu": {"model": "AMD EPYC 7763 64-Core Processor", "logical_cores": 1}}, "amd-epyc-7763-1-core"),
        ({"cpu": {"model": "Intel(R) Xeon(R) CPU @ 2.20GHz", "physical_cores": 8}}, "intel-xeon-8-cores"),
        ({"cpu": {"model": None, "physical_cores": None}, "architecture": "aarch64"}, "aarch64"),
        ({"cpu": {"model": "../../é", "physical_cores": 2}}, "2-cores"),
        ({}, "machine"),
    ],
)
def test_the_default_label_is_processor_and_cores(facts: dict[str, Any], label: str) -> None:
    assert machine.default_label(facts).removeprefix("machine-") == label


def test_an_interpreter_without_optimisation_is_warned_about() -> None:
    (sentence,) = machine.warnings({"python": {"pgo": False}})
    assert "--enable-optimizations" in sentence


def test_what_is_unknown_is_not_warned_about() -> None:
    assert machine.warnings({}) == []
    assert machine.warnings({"python": {"pgo": None}, "cpu": {"governor": None}, "source": None}) == []


def test_each_other_trap_has_its_own_sentence() -> None:
    facts = {
        "python": {"debug": True},
        "cpu": {"logical_cores": 1, "governor": "powersave"},
        "source": {"revision": "0" * 40, "clean": False},
    }
    sentences = machine.warnings(facts)
    assert len(sentences) == 4
    assert all(sentence.endswith(".") for sentence in sentences)


def test_the_revision_of_this_checkout_is_known_if_it_is_one(facts: dict[str, Any]) -> None:
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists() or facts["source"] is None:
        pytest.skip("not run from a git checkout")
    assert re.fullmatch(r"[0-9a-f]{40,64}", facts["source"]["revision"])
