"""What bad peers and a short system do to every contender's server, and that what they do to a bad one is seen."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from tests import robustness
from tests.conftest import NAMES

from loopmark.errors import UsageError
from loopmark.registry import registry
from loopmark.spi import Address, Backend, TLSProfile
from loopmark.testing import Finding, Status, require_kept
from loopmark.testing.clientfaults import CLIENT_FAULTS
from loopmark.testing.faults import FAULTS, NO_SETTING, REPETITIONS, check_faults
from loopmark.testing.hostile import Hostile, client_hello, flipped, garbage, of_tls_1_0, oversized, without_ciphers
from loopmark.tls import Identity, client_tls

SOAK = int(os.environ.get("LOOPMARK_SOAK", REPETITIONS))
BAD = Path(__file__).parent / "bad_servers.py"


@pytest.mark.parametrize("name", NAMES)
def test_every_contender_stands_every_fault(name: str, load: Callable[[str], Backend], identity: Identity) -> None:
    reported: list[Finding] = []
    findings = check_faults(registry().contender(name), load(name), identity, repetitions=SOAK, report=reported.append)
    require_kept(findings)
    assert reported == findings
    assert [each.clause for each in findings] == [each.name for each in FAULTS]
    assert sum(each.status is Status.OK for each in findings) > len(FAULTS) / 3
    page = robustness.read(robustness.sections(robustness.PAGE.read_text(encoding="utf-8"))["servers"], NAMES)
    assert [said for each in findings if (said := robustness.disagreement(each, name, page))] == []


@pytest.mark.parametrize(("side", "told"), [("servers", robustness.OF_SERVERS), ("clients", robustness.OF_CLIENTS)])
def test_the_page_has_an_outcome_of_every_fault_for_every_contender(
    side: str, told: Mapping[str, Sequence[str]]
) -> None:
    section = robustness.sections(robustness.PAGE.read_text(encoding="utf-8"))[side]
    assert robustness.rendered(side, told, robustness.read(section, NAMES), NAMES) == section
    assert "FAILED" not in section


@pytest.mark.parametrize(
    ("status", "reason", "on_the_page", "same"),
    [
        (Status.OK, "counted as tls", "counted as tls", True),
        (Status.OK, "counted as eof and reset", "counted as eof", True),
        (Status.OK, "counted as failed handshake", "counted as eof", False),
        (Status.OK, "served", "counted as failed handshake", False),
        (Status.NOT_APPLICABLE, NO_SETTING, "served", False),
        (Status.NOT_APPLICABLE, NO_SETTING, f"does not apply: {NO_SETTING}", True),
        (Status.NOT_APPLICABLE, "this system has no such thing", "served", True),
    ],
)
def test_an_outcome_that_the_page_does_not_have_is_seen(
    status: Status, reason: str, on_the_page: str, *, same: bool
) -> None:
    finding = Finding(clause="cut_ping", promise="", status=status, reason=reason)
    assert (robustness.disagreement(finding, "trio", {"cut_ping": {"trio": on_the_page}}) is None) is same


def test_outcomes_are_read_as_they_were_written() -> None:
    outcomes = {"cut_ping": {"a": "served", "b": "counted as tls (TLS 1.3); served (plain TCP)"}, "rain": {}}
    outcomes["rain"] = dict.fromkeys("ab", "does not apply: it is dry")
    told = {"cut_ping": ("PI, and no more.", "TLS 1.3"), "rain": ("It rains.", "")}
    assert robustness.read(robustness.rendered("servers", told, outcomes, "ab"), "ab") == outcomes
    del outcomes["rain"]["b"]
    with pytest.raises(KeyError, match="b"):
        robustness.rendered("servers", told, outcomes, "ab")


CAUGHT = {
    ("dies", "garbage_for_a_record"): "the server has ended without a word",
    ("hangs", "connect_and_silence"): "the peer is kept for ever",
    ("hangs", "no_close_notify"): "the peer is kept for ever",
    ("keeps_sockets", "reset_before_ping"): "descriptors instead of",
    ("keeps_tasks", "wrong_ping"): "coroutines instead of",
    ("keeps_objects", "cut_ping"): "objects instead of",
    ("keeps_memory", "cut_ping"): "bytes of memory instead of",
    ("talks", "wrong_ping"): "bytes in the log",
    ("forgets", "flipped_bit"): "5 open connections instead of 0",
    ("mixes_up", "flipped_bit"): "the server tells 20 timeout, and not tls",
    ("loses_count", "garbage_for_a_hello"): "tells nothing, and OpenSSL 0 unfinished handshakes",
    ("gives_up", "no_descriptors"): "the server has ended without a word",
}


@pytest.mark.parametrize(("name", "fault"), CAUGHT)
def test_what_a_bad_server_does_is_seen(name: str, fault: str, identity: Identity) -> None:
    contender = registry(BAD).contender(name)
    (finding,) = check_faults(contender, contender.load(), identity, only=[fault], patience=1.0)
    assert finding.status is Status.FAILED
    assert CAUGHT[name, fault] in finding.reason


def test_the_sound_server_that_bad_ones_were_made_from_stands_what_they_do_not(identity: Identity) -> None:
    contender = registry(BAD).contender("sound")
    faults = {fault for _, fault in CAUGHT}
    findings = check_faults(contender, contender.load(), identity, only=faults)
    assert {each.clause: each.status for each in findings} == dict.fromkeys(faults, Status.OK), findings


EVERYTHING = [*(each.name for each in FAULTS), *(each.name for each in CLIENT_FAULTS)]


def check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "loopmark", "check", "--faults", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)


def test_the_command_tells_every_fault_and_ends_with_status_0_when_none_did_harm() -> None:
    done = check("asyncio-sockets")
    assert (done.returncode, done.stderr) == (0, "")
    *findings, last = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in findings] == EVERYTHING
    assert "cut_ping: ok: counted as eof" in findings
    assert "flipped_bit: not applicable: the backend has none of its settings" in findings
    assert last == "asyncio-sockets stands all faults"


def test_the_command_ends_with_status_1_when_a_fault_did_harm_to_a_plug_in() -> None:
    done = check("talks_in_the_clear", "--plugin", str(BAD))
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(
        r"^wrong_ping: FAILED: 20 times are \d+ bytes in the log \(plain TCP\)$", done.stdout, re.MULTILINE
    )
    assert re.search(rf"^talks_in_the_clear: \d+ of {len(EVERYTHING)} faults did harm$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["asyncio", "uvloop-protocol"])
def test_a_server_ends_on_sigterm_with_clients_that_are_idle(
    name: str, load: Callable[[str], Backend], identity: Identity
) -> None:
    load(name)
    certificates = str(identity.ca.parent)
    command = [sys.executable, "-m", "loopmark", "serve", "tls_pingpong", "-b", name, "--port", "0"]
    with subprocess.Popen([*command, "--certs", certificates], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = re.search(r":(\d+)[,;]", process.stdout.readline())
        assert port is not None
        address = Address("127.0.0.1", int(port[1]))
        tls = client_tls(TLSProfile(), identity)
        # One in its handshake, one after it, and one that has its reply and does not answer close_notify.
        with Hostile.dial(address), Hostile.dial(address) as idle, Hostile.dial(address) as served:
            for peer in (idle, served):
                peer.begin_tls(tls.context, tls.server_name)
                peer.handshake()
            served.send(b"PING")
            assert served.read(4) == b"PONG"
            process.terminate()
            # Less than any of its own deadlines.
            assert process.wait(timeout=20) == 0


def test_every_fault_says_in_one_sentence_what_is_done() -> None:
    for fault in FAULTS:
        assert fault.promise.endswith("."), fault.name
        assert "\n" not in fault.promise, fault.name
    assert len({each.name for each in FAULTS}) == len(FAULTS)


def test_an_unknown_fault_is_wrong_usage(load: Callable[[str], Backend], identity: Identity) -> None:
    with pytest.raises(UsageError, match="unknown fault rain; there are plaintext"):
        check_faults(registry().contender("blocking"), load("blocking"), identity, only=["rain"])


@pytest.fixture
def hello(identity: Identity) -> bytes:
    tls = client_tls(TLSProfile(version="1.2"), identity)
    return client_hello(tls.context, tls.server_name)


def test_a_hello_without_ciphers_is_the_same_but_for_its_ciphers(hello: bytes) -> None:
    changed = without_ciphers(hello)
    assert len(changed) == len(hello)
    places = [at for at, (one, other) in enumerate(zip(hello, changed, strict=True)) if one != other]
    start = 44 + hello[43]
    size = int.from_bytes(hello[start : start + 2])
    assert start + 2 <= min(places) <= max(places) < start + 2 + size
    assert changed[start + 2 :][:size] == b"\x00\x02" * (size // 2)


def test_a_hello_of_tls_1_0_differs_in_its_version_only(hello: bytes) -> None:
    changed = of_tls_1_0(hello)
    assert (hello[9:11], changed[9:11]) == (b"\x03\x03", b"\x03\x01")
    assert (changed[:9], changed[11:]) == (hello[:9], hello[11:])


def test_an_oversized_record_is_as_long_as_it_says() -> None:
    record = oversized(23)
    assert record[:3] == b"\x17\x03\x03"
    assert len(record) == 5 + int.from_bytes(record[3:5]) > 5 + 2**14 + 2048


@pytest.mark.parametrize("bit", [0, 7, 8, 23, 24, 1000])
def test_one_bit_of_a_records_body_is_flipped(bit: int) -> None:
    record = b"\x17\x03\x03\x00\x03abc"
    damaged = flipped(record, bit)
    assert damaged[:5] == record[:5]
    assert (int.from_bytes(record) ^ int.from_bytes(damaged)).bit_count() == 1


def test_garbage_is_the_same_again_and_never_a_record() -> None:
    assert garbage(300, 1) == garbage(300, 1) != garbage(300, 2)
    assert len(garbage(300, 1)) == 300
    assert {garbage(300, seed)[0] for seed in range(50)} == {255}
