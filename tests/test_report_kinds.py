"""Words of a comparison must be true for every kind of traffic: units, captions, and what there is no word about."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.campaigns import BOTH, CLIENT, CONTROL, SERVER, TWIN, fake_campaign

from loopmark.case import UNITS, Case, ClosePolicy, Cores, Role, Traffic
from loopmark.plan import pairs_of
from loopmark.record import Campaign, CasePlan
from loopmark.report import comparison, description
from loopmark.report.kinds import has_connections, has_server, short, stays_open
from loopmark.report.matrix import matrix_sections
from loopmark.spi import TLSProfile

PLAIN = {"tls": None, "variant": "1KiB"}


def campaign_of(
    cases: Sequence[Case], unit: str = "connection", close: ClosePolicy | None = None, **wishes: Any
) -> Campaign:
    """Make a campaign in which all figures are per `unit`, and connections end as `close` says."""
    campaign = fake_campaign(cases=cases, **wishes)
    for planned in campaign.cases:
        planned.question, planned.unit, planned.close = "What?", unit, close
    return campaign


def told(campaign: Campaign) -> str:
    """Return all sections but the last as one line."""
    return " ".join(comparison(campaign).split("About these numbers")[0].split())


def about(campaign: Campaign) -> str:
    return " ".join(comparison(campaign).split("About these numbers")[1].split())


def headers(campaign: Campaign) -> str:
    """Return the headers of all tables, as one line."""
    rows = [line for line in comparison(campaign, "github").splitlines() if line.startswith("| contender")]
    assert rows
    return " ".join(" ".join(rows).replace("|", " ").replace("<br>", " ").split())


def plan_of(unit: str, close: ClosePolicy | None) -> CasePlan:
    return CasePlan(case=SERVER, arms=(), loops=1, unit=unit, close=close)


@pytest.mark.parametrize(
    ("unit", "close", "facts"),
    [
        # What is served, has connections, and keeps them open.
        ("connection", ClosePolicy.FIN, (True, True, False)),
        ("connection", None, (True, True, False)),
        ("round trip", ClosePolicy.CLIENT_FIN, (True, True, True)),
        ("request", ClosePolicy.CLIENT_NOTIFY, (True, True, True)),
        ("round trip", None, (True, False, False)),
        ("lookup", None, (False, False, False)),
    ],
)
def test_unit_and_close_tell_the_kinds_apart(
    unit: str, close: ClosePolicy | None, facts: tuple[bool, bool, bool]
) -> None:
    planned = plan_of(unit, close)
    assert (has_server(planned), has_connections(planned), stays_open(planned)) == facts


def test_headers_have_short_units() -> None:
    assert {short(plan_of(unit, None)) for unit in UNITS.values()} == {"conn", "trip", "request", "lookup"}


MESSAGES = replace(SERVER, benchmark="tls_echo", variant="open-1KiB")


def messages(**wishes: Any) -> Campaign:
    both = (MESSAGES, replace(MESSAGES, role=Role.CLIENT), replace(BOTH, benchmark="tls_echo", variant="open-1KiB"))
    wishes = {"cases": both, "floor": False, **wishes}
    return campaign_of(unit=UNITS[Traffic.MESSAGES], close=ClosePolicy.CLIENT_NOTIFY, **wishes)


def test_a_title_names_the_conversation() -> None:
    assert comparison(messages(), "github").startswith("### tls_echo, open-1KiB, 100 at a time, separate cores: ")


def test_figures_of_messages_are_per_round_trip_and_only_bytes_on_the_wire_are_a_connections() -> None:
    found = headers(messages())
    assert "server CPU us/trip" in found
    assert "minor faults/trip" in found
    assert "round trips/s round trips per client-CPU-second" in found
    assert found.replace("TLS bytes/conn", "").count("conn") == 0


def test_of_messages_it_is_said_what_is_timed_and_whose_the_bytes_are() -> None:
    words = told(messages(field_blocks=3, field_effects={"uvloop": 2.0, "trio": 1.15, "anyio+uvloop": 0.95}))
    assert "Figures are per round trip. Connections are opened before, and closed after, what is timed." in words
    assert "bytes are what the contender itself sends in one whole connection, with one round trip." in words
    assert "blocks of 5 values of 300 round trips for each contender" in words
    assert "they compare CPU time per round trip" in words
    assert "minor faults/trip: " in words
    assert "faults/conn" not in words
    assert "round trips per client-CPU-second leaves out" in words


def test_one_at_a_time_is_told_in_the_unit() -> None:
    words = told(messages(effects={"blocking": 0.5}))
    assert "blocking is the row without a loop: plain blocking sockets, one round trip after the other." in words


def test_what_is_not_per_connection_is_described_in_its_unit() -> None:
    assert "8 0 300 round trips blocks" in " ".join(description(messages()).split())


def datagrams() -> Campaign:
    cases = [replace(each, benchmark="udp_echo", variant="64B", tls=None) for each in (SERVER, CLIENT, BOTH)]
    campaign = campaign_of(cases, unit=UNITS[Traffic.DATAGRAMS])
    campaign.traces.clear()
    return campaign


def test_datagrams_are_neither_tcp_nor_closed_nor_on_the_recorded_wire() -> None:
    words = told(datagrams())
    assert "UDP, without connections. Figures are per round trip: each socket sends a datagram when it has" in words
    assert "a value in which one was lost is void" in words
    for untrue in ("TCP", "TLS", "Close (", "bytes", "Connections are", "conn "):
        assert untrue not in words, untrue


def lookups(cores: Cores = Cores.SHARED, **wishes: Any) -> Campaign:
    case = replace(BOTH, benchmark="getaddrinfo", variant="literal-ipv4", tls=None, cores=cores)
    campaign = campaign_of([case], unit=UNITS[Traffic.LOOKUPS], **wishes)
    campaign.traces.clear()
    return campaign


def test_lookups_have_no_server_in_any_word() -> None:
    words = told(lookups())
    assert words.startswith("getaddrinfo, literal-ipv4, 1 at a time, one core: without a server")
    assert "Lookups, compared by wall time" in words
    assert "Figures are per lookup; no server is called." in words
    for untrue in ("servers", "server CPU", "client", "s: server", "TCP", "Close", "bound", "both sides"):
        assert untrue not in words, untrue
    assert "loopback" not in about(lookups())


def test_lookups_have_columns_of_one_process() -> None:
    found = headers(lookups())
    assert found.endswith("contender CPU us/lookup CPU % of wall private memory KiB")
    assert "lookups/s lookups per CPU-second" in found


@pytest.mark.parametrize(
    ("cores", "title", "sentence"),
    [
        (Cores.SHARED, "one core", "the process runs on one core, with all of its threads"),
        (Cores.SEPARATE, "one core", "the process runs on one core, with all of its threads"),
        (Cores.ANY, "not pinned", "the process runs wherever the system puts it"),
    ],
)
def test_lookups_are_placed_like_one_process(cores: Cores, title: str, sentence: str) -> None:
    words = told(lookups(cores))
    assert f"1 at a time, {title}: without a server" in words
    assert f"Placement: {sentence}." in words


def test_the_row_without_a_loop_has_no_sockets_where_names_are_looked_up() -> None:
    words = told(lookups(effects={"blocking": 0.5}))
    assert "blocking is the row without a loop: plain blocking calls, one lookup after the other." in words


def idle(role: Role = Role.SERVER) -> Campaign:
    case = replace(BOTH if role is Role.BOTH else SERVER, role=role, benchmark="tls_idle", concurrency=100, held=25)
    campaign = campaign_of([case], close=ClosePolicy.BOTH_NOTIFY, floor=False)
    for block in campaign.blocks:
        for label, each in block.measurements.items():
            size = 1024.0 * (280 if label in ("asyncio", TWIN, CONTROL) else 28) + block.index
            memory = (size,) * len(each.wall)
            block.measurements[label] = replace(each, client_memory=memory, server_memory=memory)
    return campaign


def test_idle_connections_are_held_and_compared_by_memory() -> None:
    words = told(idle())
    assert words.startswith("tls_idle, 100 held, separate cores: servers under one fixed client")
    assert "Servers, compared by server memory" in words
    assert "Memory is what the connections beyond the first 25 add to a process's private memory" in words
    assert "below 1 is less memory." in about(idle())
    assert "1 server 100 held server memory" in " ".join(description(idle()).split())


def test_memory_has_no_pace_no_floor_and_no_path_in_the_kernel() -> None:
    found = headers(idle())
    assert "KiB/conn" in found
    assert "us/conn" not in found
    assert "bound" not in found
    words = told(idle())
    for untrue in ("*]", "* [", "busy", "floor", "Where the time goes", "set the pace"):
        assert untrue not in words, untrue
    assert "loopback" not in about(idle())


def test_contenders_that_hold_both_sides_are_judged_by_the_servers() -> None:
    assert "Servers, each with its own client, compared by server memory" in told(idle(Role.BOTH))


def test_two_baselines_are_both_named() -> None:
    campaign = fake_campaign(cases=[SERVER, replace(SERVER, benchmark="udp_echo")])
    campaign.cases[1].baseline = "trio"
    assert "Ratios are to asyncio or trio (whose ratio is 1) in the same round" in about(campaign)
    assert "baseline: asyncio or trio, margin" in description(campaign)


def test_time_and_memory_in_one_campaign_are_both_named() -> None:
    campaign = idle()
    campaign.cases.append(replace(fake_campaign(cases=[BOTH]).cases[0]))
    assert "below 1 is less memory or time." in about(campaign)


@pytest.mark.parametrize(
    ("changes", "unit", "close", "sentences"),
    [
        (
            {},
            "connection",
            ClosePolicy.BOTH_NOTIFY,
            ["every handshake was a full one", "the same connections, and one"],
        ),
        (
            {"tls": TLSProfile(tickets=1, resumed=True)},
            "connection",
            ClosePolicy.BOTH_NOTIFY,
            ["every handshake resumed a session, verified"],
        ),
        (
            PLAIN,
            "round trip",
            ClosePolicy.CLIENT_FIN,
            ["b, 1KiB, 100 at a time", "us/trip", "the same round trips, and"],
        ),
        (PLAIN, "round trip", None, ["both sides counted the same round trips.", "5 values of 300 round trips"]),
    ],
)
def test_a_matrix_is_told_in_its_unit(
    changes: dict[str, Any], unit: str, close: ClosePolicy | None, sentences: list[str]
) -> None:
    case = replace(SERVER, benchmark="b", role=Role.PAIR, peer=None, **changes)
    campaign = campaign_of([case], unit=unit, close=close, effects={}, floor=False, twins=0)
    label, (pair, *_) = "asyncio-to-asyncio", pairs_of(["asyncio"], "asyncio")
    campaign.baseline = label
    campaign.cases[0].arms = (pair,)
    for number, block in enumerate(campaign.blocks):
        one = replace(block.measurements["asyncio"], arm=label)
        campaign.blocks[number] = replace(block, order=(label,), rounds=(), measurements={label: one})
    (section, _) = matrix_sections(campaign)
    words = " ".join([section.title, *(table.title for table in section.tables), *section.lines])
    for sentence in sentences:
        assert sentence in words
    assert ("on the wire" in words) is (close is not None)


def test_a_matrix_whose_baseline_is_another_one_finds_it() -> None:
    case = replace(SERVER, role=Role.PAIR, peer=None)
    campaign = fake_campaign(cases=[case], effects={"trio": 1.2}, floor=False, twins=0, blocks=0)
    campaign.baseline = "asyncio-to-asyncio"
    campaign.cases[0].baseline = "trio-to-trio"
    campaign.cases[0].arms = pairs_of(["trio", "uvloop"], "trio")
    (section, _) = matrix_sections(campaign)
    assert "No block was completed" in " ".join(section.lines)
