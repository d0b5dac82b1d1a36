"""The servers that the clients are measured against, each a separate process on loopback.

- ``plain_nginx``: answers every number at once in some 200 bytes; over TLS if asked.
- ``limiting_nginx``: nginx ``limit_req`` in front of delayed replies; it refuses as the vendor does.
- ``delay_server``: answers after a delay (benchmarks/delay_server.py).
- ``sandbox``: accucheck's simulated vendor, for the limiters that nginx does not have.

Each is a context manager that ends its process by id, even when the benchmark is interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

READY_TIMEOUT = 15.0
"""Seconds that a server may take to listen."""

_REPLY = (
    '{"status": "OK", "result": {"number": "+51$http_x_number", "whatsapp": "$whatsapp", '
    '"status_update": "20231212", "signature": "Hello world", '
    '"business_user": "no", "avatar": "yes"}, "request_id": "TID591cb9fb0e284cf296912a4d0ffea889"}'
)
_REFUSAL = (
    '{"status": "RATE_LIMIT_EXCEEDED", "reason": "API request frequency exceeds the limit", '
    '"request_id": "TID0bb59f6aa6454717b870b16202ccf36f"}'
)
# Keep-alive without end: closing connections every 1,000 requests (nginx's default) would measure connecting.
_NGINX = """\
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
    uwsgi_temp_path {folder}/uwsgi;
{http}
}}
"""
# The reply must contain the number from the request body, and nginx reads the body only when it forwards the
# request: to itself, with the number in a header. That costs the server CPU, not the client.
_PLAIN = """\
    map $request_body $number {{ '~(?<digits>[0-9]+)' $digits; }}
    map $http_x_number $whatsapp {{ '~[13579]$' yes; default no; }}
    upstream itself {{ server unix:{folder}/answers.sock; keepalive 1024; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port}{tls};
        {certificate}
        location / {{
            client_body_in_single_buffer on;
            client_body_buffer_size 1k;
            proxy_pass http://itself;
            proxy_http_version 1.1;
            proxy_method GET;
            proxy_pass_request_body off;
            proxy_pass_request_headers off;
            proxy_set_header Connection '';
            proxy_set_header Content-Length '';
            proxy_set_header X-Number $number;
        }}
    }}
    server {{
        listen unix:{folder}/answers.sock;
        location / {{ return 200 '{reply}'; }}
    }}
    server {{
        listen 127.0.0.1:{stats_port};
        location / {{ stub_status; }}
    }}
"""
# limit_req acts after `set` and `if` of the rewrite phase, and does not count a request whose key is empty:
# touching one file moves all requests from the first limit to the second, without a reload that would
# close the clients' connections.
_LIMITING = """\
    log_format timeline '$msec $request_time $status';
    limit_req_zone $first_key zone=first:1m rate={rate}r/s;
    limit_req_zone $second_key zone=second:1m rate={second_rate}r/s;
    upstream answers {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port};
        access_log {folder}/access.log timeline;
        set $first_key $http_x_df_api_id;
        set $second_key '';
        if (-f {folder}/second) {{
            set $first_key '';
            set $second_key $http_x_df_api_id;
        }}
        location / {{
            limit_req zone=first burst={burst} nodelay;
            limit_req zone=second burst={second_burst} nodelay;
            limit_req_status 403;
            limit_req_log_level info;
            error_page 403 = @refused;
            proxy_pass http://answers;
            proxy_http_version 1.1;
            proxy_set_header Connection '';
        }}
        location @refused {{ return 403 '{refusal}'; }}
        location = /stub_status {{ access_log off; stub_status; }}
    }}
"""


class Unavailable(Exception):
    """A server cannot be started here; the message says what is missing."""


@dataclasses.dataclass(kw_only=True)
class Server:
    """A server that is running."""

    base_url: str
    folder: Path
    """Its own temporary directory: configuration and logs."""
    ca_file: Path | None = None
    stats_url: str = ""
    hops: int = 1
    """Requests that it counts for each one that a client makes."""
    _own_requests: int = 0

    def requests(self) -> int:
        """Return how many requests the server has counted since its start, without these queries."""
        with urllib.request.urlopen(self.stats_url, timeout=5) as reply:
            text = reply.read().decode()
        if text.startswith("{"):
            return int(json.loads(text)["requests"])
        # stub_status, third line: accepts handled requests. It also counts the requests for this page.
        self._own_requests += 1
        return (int(text.splitlines()[2].split()[2]) - self._own_requests) // self.hops

    def stats(self) -> dict[str, Any]:
        """Return the reply to ``GET /stats`` (of the delay server or the sandbox)."""
        with urllib.request.urlopen(f"{self.base_url}/stats", timeout=5) as reply:
            stats: dict[str, Any] = json.load(reply)
        return stats


@dataclasses.dataclass(kw_only=True)
class LimitingServer(Server):
    """nginx with a rate limit that can be changed once."""

    @property
    def log(self) -> Path:
        """The access log: when each request ended, how long it took, and its HTTP code."""
        return self.folder / "access.log"

    def change_limit(self) -> None:
        """Switch to the second limit."""
        (self.folder / "second").touch()


def require(program: str) -> str:
    """Return the path of a program, or say what to install."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise Unavailable(f"{program} is not installed (Debian: apt install nginx-light redis-server wrk)")
    return path


@contextlib.contextmanager
def process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process during the block; it has ended afterwards, whatever happens."""
    # With util-linux, the kernel ends the process even if the benchmark itself is killed.
    bound = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    child = subprocess.Popen([*bound, *command], text=True, stdin=subprocess.DEVNULL, **options)
    try:
        yield child
    finally:
        if child.poll() is None:
            child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()


@contextlib.contextmanager
def plain_nginx(*, tls: bool = False) -> Iterator[Server]:
    """Answer every number at once; one that ends in an odd digit is on WhatsApp."""
    with _folder() as folder:
        ca_file, certificate = _certificate(folder) if tls else (None, "")
        port, stats_port = _free_port(), _free_port()
        http = _PLAIN.format(
            folder=folder,
            port=port,
            tls=" ssl" if tls else "",
            certificate=certificate,
            reply=_REPLY,
            stats_port=stats_port,
        )
        with _nginx(folder, http, port):
            yield Server(
                base_url=f"{'https' if tls else 'http'}://127.0.0.1:{port}",
                folder=folder,
                ca_file=ca_file,
                stats_url=f"http://127.0.0.1:{stats_port}/stub_status",
                hops=2,
            )


@contextlib.contextmanager
def limiting_nginx(
    *,
    rate: int,
    burst: int,
    then_rate: int | None = None,
    latency: tuple[float, float] = (0.02, 0.08),
    upstream: str | None = None,
) -> Iterator[LimitingServer]:
    """Serve at most ``rate`` requests per second plus a burst; refuse the rest as the vendor does.

    ``then_rate`` is the limit after ``change_limit()``, with a proportional burst. An admitted request is
    answered after a ``latency`` of (shortest, longest) seconds, or by the server at ``upstream``.
    """
    second_rate = then_rate or rate
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder())
        if upstream is None:
            upstream = stack.enter_context(delay_server(*latency)).base_url
        port = _free_port()
        http = _LIMITING.format(
            rate=rate,
            burst=burst,
            second_rate=second_rate,
            second_burst=max(1, burst * second_rate // rate),
            upstream=upstream.removeprefix("http://"),
            port=port,
            folder=folder,
            refusal=_REFUSAL,
        )
        with _nginx(folder, http, port):
            base_url = f"http://127.0.0.1:{port}"
            yield LimitingServer(base_url=base_url, folder=folder, stats_url=f"{base_url}/stub_status")


@contextlib.contextmanager
def delay_server(low: float, high: float) -> Iterator[Server]:
    """Answer each number after ``low`` to ``high`` seconds."""
    command = [sys.executable, "-m", "benchmarks.delay_server", f"--low={low}", f"--high={high}"]
    with _folder() as folder, _announced(command) as base_url:
        yield Server(base_url=base_url, folder=folder, stats_url=f"{base_url}/stats")


@contextlib.contextmanager
def sandbox(*arguments: str) -> Iterator[Server]:
    """Run ``accucheck sandbox`` with these arguments, logging requests to ``requests.jsonl``."""
    with _folder() as folder:
        command = [sys.executable, "-m", "accucheck", "sandbox", "--port=0", *arguments]
        command += ["--request-log", str(folder / "requests.jsonl")]
        with _announced(command) as base_url:
            yield Server(base_url=base_url, folder=folder, stats_url=f"{base_url}/stats")


@contextlib.contextmanager
def _nginx(folder: Path, http: str, port: int) -> Iterator[None]:
    # As root, nginx would run its workers as a user that cannot read the temporary directory.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(user=user, folder=folder, http=http))
    command = [require("nginx"), "-c", str(configuration), "-p", str(folder), "-e", str(folder / "error.log")]
    with process(command) as child:
        deadline = time.monotonic() + READY_TIMEOUT
        while not _listens(port):
            if child.poll() is not None or time.monotonic() > deadline:
                errors = (folder / "error.log").read_text().strip()
                raise Unavailable(f"nginx did not start: {errors or 'no message'}")
            time.sleep(0.02)
        yield


@contextlib.contextmanager
def _announced(command: Sequence[str]) -> Iterator[str]:
    """Run a server that prints ``listening on URL``; yield its address."""
    with process(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("listening on "):
                yield line.removeprefix("listening on ").strip()
                return
        raise Unavailable(f"{' '.join(command[1:3])} ended without listening")


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="accucheck-bench-") as name:
        yield Path(name)


def _certificate(folder: Path) -> tuple[Path, str]:
    """Create a CA and a certificate signed by it; return the authority's file and nginx's directives."""
    try:
        import trustme
    except ImportError as missing:
        raise Unavailable("trustme is missing (pip install -r benchmarks/requirements.txt)") from missing
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for index, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(folder / "certificate.pem", append=index > 0)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    directives = f"ssl_certificate {folder}/certificate.pem; ssl_certificate_key {folder}/key.pem;"
    return folder / "authority.pem", directives


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
