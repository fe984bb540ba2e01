"""Builds fake campaigns: seeded, on a virtual clock, without any I/O."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from loopmark.case import Case, ClosePolicy, Cores, Role
from loopmark.record import UNKNOWN, Arm, Block, Campaign, CasePlan, Kind, Measurement, Side, Trace
from loopmark.spi import TLSProfile

TWIN = "asyncio.twin"
CONTROL = "asyncio.control"
FLOOR = "floor"
BEGIN = datetime(2026, 11, 20, 9, 15, tzinfo=UTC)

SERVER = Case(
    benchmark="tls_pingpong", concurrency=100, role=Role.SERVER, peer="uvloop", cores=Cores.SEPARATE, tls=TLSProfile()
)
CLIENT = replace(SERVER, role=Role.CLIENT)
BOTH = replace(SERVER, role=Role.BOTH, peer=None, concurrency=1, cores=Cores.SHARED)
DEFAULT_CASES = (SERVER, CLIENT, BOTH)

EFFECTS: Mapping[str, float] = {"uvloop": 0.85, "trio": 1.15, "anyio+uvloop": 0.95}

CLIENT_FLOOR, SERVER_FLOOR = 120e-6, 80e-6
"""Seconds of CPU time per connection; the baseline takes 300 and 200 us."""

MACHINE = {
    "cpu": {"model": "AMD EPYC", "physical_cores": 2, "logical_cores": 2, "governor": None},
    "memory_mib": 16000,
    "system": "Linux 6.18.0",
    "architecture": "x86_64",
    "virtualisation": "hypervisor",
    "libc": "glibc 2.36",
    "python": {"version": "3.13.0", "implementation": "CPython", "compiler": "GCC 12.2.0", "pgo": False, "lto": False},
    "openssl": "OpenSSL 3.0.19 27 Jan 2026",
    "malloc": {"MALLOC_TRIM_THRESHOLD_": "67108864"},
    "sysctls": {"net.core.somaxconn": "4096"},
    "versions": {"loopmark": "0.1.0", "trio": "0.35.0", "uvloop": "0.23.0"},
    "source": {"revision": "0123456789abcdef0123456789abcdef01234567", "clean": True},
}


def fake_campaign(
    seed: int = 1,
    *,
    blocks: int = 8,
    field_blocks: int = 0,
    values: int = 5,
    effects: Mapping[str, float] = EFFECTS,
    field_effects: Mapping[str, float] | None = None,
    cases: Sequence[Case] = DEFAULT_CASES,
    hidden: Sequence[str] = (),
    noise: float = 0.01,
    mode: str = "default",
    twins: int = 1,
    control: float | None = None,
    floor: bool = True,
    target: float | None = None,
) -> Campaign:
    """Simulate a whole campaign of `asyncio`, its twins and the contenders in `effects`: true ratios of CPU times.

    `effects` may also tell what a twin is off. `control` is the true ratio of a positive control; TLS cases have a
    `floor`. In field blocks `field_effects` hold instead. The machine's speed wanders over the blocks, the same for all
    arms; within a block the arms take their values in rounds of random order.
    """
    drawn = random.Random(seed)
    labels = [TWIN, *(f"{TWIN}{number}" for number in range(2, twins + 1))][:twins]
    arms = [
        Arm(label="asyncio", contender="asyncio"),
        *(Arm(label=label, contender="asyncio", kind=Kind.TWIN) for label in labels),
        *(
            Arm(label=name, contender=name, kind=Kind.HIDDEN if name in hidden else Kind.CONTENDER)
            for name in effects
            if name not in labels
        ),
    ]
    if control is not None:
        arms.append(Arm(label=CONTROL, contender="asyncio", kind=Kind.CONTROL))
        effects = {**effects, CONTROL: control}
    campaign = Campaign(
        started=BEGIN.strftime("%Y-%m-%dT%H:%M:%SZ"),
        label="amd-epyc-2-cores",
        command=("loopmark", "run"),
        seed=seed,
        mode=mode,
        baseline="asyncio",
        margin=0.01,
        target=target,
        machine=MACHINE,
        ended="done",
    )
    for case in cases:
        campaign.cases.append(
            CasePlan(
                case=case,
                arms=(*arms, Arm(label=FLOOR, contender=FLOOR, kind=Kind.FLOOR)) if floor and case.tls else tuple(arms),
                loops=max(200, case.minimum_loops),
                question="What does a new TLS connection cost: connect, verified handshake, PING, PONG, close?",
                close=ClosePolicy.BOTH_NOTIFY,
                ended="blocks",
            )
        )
        campaign.traces[case.name] = {arm.label: TRACE for arm in arms}  # the floor has no wire
    elapsed = 20.0
    for index in range(blocks + field_blocks):
        for plan in campaign.cases:
            field = index >= blocks
            truth = field_effects if field and field_effects is not None else effects
            block = _block(plan, index, field, truth, drawn, values, noise, elapsed)
            campaign.blocks.append(block)
            elapsed += block.seconds
            campaign.measured_seconds += sum(
                (sum(each.wall) + sum(each.warmups)) * each.loops for each in block.measurements.values()
            )
    campaign.seconds = elapsed
    return campaign


TRACE = Trace(
    records=("> handshake 517", "< handshake 122", "< change_cipher_spec 1", "< application_data 23"),
    bytes_to_server=689,
    bytes_to_client=1003,
    group="X25519",
    first_close_notify="server",
    first_fin="server",
)


def _block(
    plan: CasePlan,
    index: int,
    field: bool,
    effects: Mapping[str, float],
    drawn: random.Random,
    values: int,
    noise: float,
    elapsed: float,
) -> Block:
    order = [arm.label for arm in plan.arms if not (field and arm.kind is Kind.FLOOR)]
    drawn.shuffle(order)
    floor = plan.labels(Kind.FLOOR)
    speed = drawn.uniform(0.8, 1.25)
    measurements = {}
    for position, label in enumerate(order):
        effect = None if label in floor else effects.get(label, 1.0)
        rows = [_value(plan.case, speed, effect, drawn, noise) for _ in range(values + 1)]
        wall, client, server = (tuple(column) for column in zip(*rows, strict=True))
        when = BEGIN + timedelta(seconds=int(elapsed) + position)
        measurements[label] = Measurement(
            arm=label,
            loops=plan.loops,
            wall=wall[1:],
            client_cpu=client[1:],
            server_cpu=server[1:],
            warmups=wall[:1],
            client=UNKNOWN if label in floor else _side(0.5 if not field else 4.0),
            server=UNKNOWN if label in floor else _side(0.25 if not field else 34.0),
            peak=0 if label in floor else plan.case.concurrency,
            seconds=sum(wall) * plan.loops + 0.1,
            facts={
                "client": {"loop": f"{label.split('.')[0]}.Loop", "nodelay": True},
                "server": {"loop": f"{label.split('.')[0]}.Loop", "nodelay": True},
                "equal": {"tls_version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"},
            },
            metadata={
                "date": when.strftime("%Y-%m-%d %H:%M:%S"),
                "load_avg_1min": 0.5,
                "platform": "Linux-6.18.0-x86_64-with-glibc2.36",
                "python_version": "3.13.0 (64-bit)",
                "cpu_count": 2,
            },
        )
    return Block(
        case=plan.case.name,
        index=index,
        field=field,
        order=tuple(order),
        rounds=tuple(tuple(drawn.sample(order, k=len(order))) for _ in range(values + 1)),
        measurements=measurements,
        seconds=sum(each.seconds for each in measurements.values()) + 0.2,
    )


def _value(
    case: Case, speed: float, effect: float | None, drawn: random.Random, noise: float
) -> tuple[float, float, float]:
    """Return wall, client CPU, server CPU of one value; the fixed peer costs the same for all.

    `effect` None is the floor.
    """
    jitter = [drawn.lognormvariate(0, noise) for _ in range(2)]
    if effect is None:
        client, server = CLIENT_FLOOR * speed * jitter[0], SERVER_FLOOR * speed * jitter[1]
        return client + server, client, server
    client = 300e-6 * speed * jitter[0] * (1.0 if case.role is Role.SERVER else effect)
    server = 200e-6 * speed * jitter[1] * (1.0 if case.role is Role.CLIENT else effect)
    if case.cores is Cores.SHARED:
        return (client + server) * 1.001, client, server
    return max(client, server) * 1.001, client, server


def _side(minor_faults: float) -> Side:
    return Side(
        minor_faults=minor_faults,
        voluntary_switches=0.01,
        involuntary_switches=0.001,
        run_delay=1e-6,
        collections=2,
        private_kib=1024.0,
    )
