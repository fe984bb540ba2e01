"""How nginx is found, and what it reads: its configuration, the certificate and the file that it serves."""

import grp
import os
import pwd
import re
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from loopmark.errors import UnavailableError, UsageError
from loopmark.registry import Contender, Source
from loopmark.service import Talk
from loopmark.spi import Address, TLSProfile
from loopmark.task import Task

CONTENDER = Contender(name="nginx", backend=Source(value="loopmark.nginx:serve"), reference=True)
"""How it is played, in a contender's words."""

_INSTALL = "nginx is not installed; type: apt install nginx-light (Debian), brew install nginx (macOS)"

_USUAL = ("/usr/sbin", "/usr/local/sbin")
"""Where it is installed without being on everybody's PATH."""

_NEEDED = ("http_ssl_module", "http_stub_status_module")

_WITH_FILES = ("proxy", "fastcgi", "uwsgi", "scgi")
"""Modules that make themselves a directory at the start, needed or not."""

_SPARE = 512
"""Connections beyond twice those at a time: a new one may come before the one that it follows is put away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What `nginx -V` tells."""

    version: str
    """As it calls itself: `nginx/1.22.1`."""
    openssl: str | None
    """The library that it runs with; None without TLS."""
    arguments: str
    """What it was configured with."""

    def __str__(self) -> str:
        return f"{self.version} with {self.openssl}" if self.openssl else self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file to be served, and where."""

    path: str
    media_type: str
    body: bytes


def find() -> tuple[str, Build]:
    """Return where nginx is, and what it is; raises UnavailableError with the reason and the cure."""
    program = shutil.which("nginx", path=os.pathsep.join((os.environ.get("PATH", os.defpath), *_USUAL)))
    if program is None:
        raise UnavailableError(_INSTALL)
    done = subprocess.run((program, "-V"), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    build = parse_build(done.stderr)
    missing = [module for module in _NEEDED if f"--with-{module}" not in build.arguments]
    if missing:
        raise UnavailableError(f"this {build.version} was built without {' and '.join(missing)}; install another one")
    return program, build


def parse_build(text: str) -> Build:
    """Read what `nginx -V` prints; raises UnavailableError for anything else."""
    version = re.search(r"^nginx version: (\S+)", text, re.MULTILINE)
    if version is None:
        raise UnavailableError(f"nginx -V does not say which version it is, but {text[:200]!r}")
    built = re.search(r"^built with (\S+ [^ (\n]+)(?:.*\(running with (\S+ [^ )\n]+))?", text, re.MULTILINE)
    arguments = re.search(r"^configure arguments:(.*)$", text, re.MULTILINE)
    return Build(
        version=version[1],
        openssl=(built[2] or built[1]) if built else None,
        arguments=arguments[1] if arguments else "",
    )


def content_of(talk: Talk) -> Content:
    """Take from a conversation what to serve; raises UsageError when it is not about a file."""
    method, _, rest = b"".join(talk.parts).partition(b" ")
    path = rest.partition(b" ")[0].decode("latin-1")
    header, blank, body = talk.reply.partition(b"\r\n\r\n")
    if method != b"GET" or not re.fullmatch(r"/|(/[\w-][\w.-]*)+", path) or not blank:
        raise UsageError("nginx serves files: the conversation must be a GET of a plain path, answered with a header")
    kind = re.search(rb"(?im)^content-type: *([\w/+.-]+(?:; *[\w=-]+)?)", header)
    return Content(path=path, media_type=kind[1].decode() if kind else "text/html", body=body)


def prepare(directory: Path, task: Task, build: Build, listener: Address, status: Address) -> None:
    """Write everything that nginx reads into its directory, and an empty `error.log`."""
    content = content_of(task.conversation().talk)
    for where in filter(None, (content.path, task.load_benchmark().second_opinion)):
        served = directory / "html" / (where[1:] or "index.html")
        served.parent.mkdir(parents=True, exist_ok=True)
        served.write_bytes(content.body)
    if task.identity is not None:
        # Under names of ours, so that no path of the user's has to be quoted in the configuration.
        for name, path in (("ca", task.identity.ca), ("chain", task.identity.chain), ("key", task.identity.key)):
            (directory / f"{name}.pem").symlink_to(path.resolve())
    text = configuration(task, build, content.media_type, listener, status)
    (directory / "nginx.conf").write_text(text, encoding="utf-8")
    (directory / "error.log").touch()


def configuration(task: Task, build: Build, media_type: str, listener: Address, status: Address) -> str:
    """Write nginx's configuration; all files that it names are relative to its own directory."""
    profile = task.case.tls
    connections = 2 * task.case.concurrency + _SPARE
    modules = [name for name in _WITH_FILES if f"--without-http_{name}_module" not in build.arguments]
    temporary = "".join(f"    {name}_temp_path temporary;\n" for name in ("client_body", *modules))
    return f"""\
{_user()}daemon off;
worker_processes 1;
worker_rlimit_nofile {_files(connections)};
pid nginx.pid;
error_log error.log warn;
events {{
    worker_connections {connections};
}}
http {{
{temporary}\
    access_log off;
    keepalive_timeout 0;
    tcp_nodelay {"on" if task.options.nodelay else "off"};
    types {{ }}
    default_type "{media_type}";
    server {{
        listen {listener}{" ssl" if profile else ""} backlog={task.options.backlog};
        root html;
{_tls(profile) if profile else ""}\
    }}
    server {{
        listen {status};
        location / {{
            stub_status;
            add_header X-Worker $pid;
        }}
    }}
}}
"""


def _tls(profile: TLSProfile) -> str:
    lines = [
        "ssl_certificate chain.pem",
        "ssl_certificate_key key.pem",
        f"ssl_protocols TLSv{profile.version}",
        f"ssl_ecdh_curve {profile.group}",
        "ssl_session_cache off",
        f"ssl_session_tickets {'on' if profile.tickets else 'off'}",
        f"ssl_conf_command NumTickets {profile.tickets}",
    ]
    if profile.cipher:
        directive = "ssl_ciphers" if profile.version == "1.2" else "ssl_conf_command Ciphersuites"
        lines.append(f"{directive} {profile.cipher}")
    if profile.client_key:
        lines += ["ssl_client_certificate ca.pem", "ssl_verify_client on"]
    return "".join(f"        {line};\n" for line in lines)


def _user() -> str:
    """Keep the worker who we are; started by root it would be somebody else, who may not read its directory."""
    if os.geteuid() != 0:
        return ""
    return f"user {pwd.getpwuid(0).pw_name} {grp.getgrgid(os.getegid()).gr_name};\n"


def _files(connections: int) -> int:
    """Return how many descriptors the worker gets: a connection that is served a file has that open, too."""
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2 * connections if allowed == resource.RLIM_INFINITY else min(2 * connections, allowed)
