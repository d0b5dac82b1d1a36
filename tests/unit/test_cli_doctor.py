"""What doctor finds in hostile environments, and what it advises."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme

from accucheck._store import _file
from accucheck.cli import _doctor
from accucheck.cli._doctor import Finding
from accucheck.cli._options import Account


@contextmanager
def server(*, date: datetime | None = None, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Answer every connection with an empty reply; yield the port."""
    head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n"
    if date is not None:
        head += f"Date: {format_datetime(date, usegmt=True)}\r\n"

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with connection:
                    connection.settimeout(5)
                    talk = (
                        connection if context is None else context.wrap_socket(connection, server_side=True)
                    )
                    with talk:
                        if talk.recv(4096):
                            talk.sendall(f"{head}\r\n".encode())
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def found(account: Account) -> dict[str, Finding]:
    return {finding.what: finding for finding in _doctor._network(account)}


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_an_unknown_host_ends_the_network_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    no_network(monkeypatch)
    findings = found(Account(base_url="https://accuauth.invalid"))
    assert findings["DNS"].state == "failed"
    assert "check --base-url and the network" in findings["DNS"].advice
    assert "HTTP" not in findings


def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def lookup(host: str, *args: object, **keywords: object) -> object:
        if str(host).startswith("127."):
            return real(host, *args, **keywords)  # type: ignore[arg-type]
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def test_behind_a_proxy_the_host_need_not_resolve_and_no_password_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_network(monkeypatch)
    with server() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@127.0.0.1:{dead_port()}")
        dead = found(Account(base_url="https://accuauth.invalid"))
        assert dead["DNS"].state == "ok"
        assert dead["HTTP"].state == "failed"
        assert "check the proxy" in dead["HTTP"].advice
        assert "HTTPS_PROXY" in dead["proxy"].found
        assert not any("hunter2" in text for finding in dead.values() for text in finding)
        monkeypatch.setenv("NO_PROXY", "accuauth.invalid")
        assert found(Account(base_url="https://accuauth.invalid"))["proxy"].found == "none is used"
        monkeypatch.setenv("NO_PROXY", "192.0.2.0/24")  # a network, as the client reads it
        assert found(Account(base_url="https://192.0.2.1"))["proxy"].found == "none is used"
        unusable = found(Account(base_url="https://accuauth.invalid", proxy="x"))
        direct = found(Account(base_url=f"http://127.0.0.1:{port}", proxy="http://127.0.0.1:1"))
    assert unusable["proxy"].state == "failed"
    assert direct["HTTP"].state == "ok"
    assert direct["proxy"].found == "none is used"  # loopback is reached directly


def test_a_port_that_nobody_listens_on_is_a_failure_with_advice() -> None:
    findings = found(Account(base_url=f"http://127.0.0.1:{dead_port()}"))
    assert findings["TCP"].state == "failed"
    assert "nothing is listening there: check --base-url" in findings["TCP"].advice


@pytest.mark.parametrize(("days", "state"), [(-1, "failed"), (3, "warning"), (90, "ok")])
def test_a_certificate_that_ends_soon_or_has_ended_is_noticed(tmp_path: Path, days: int, state: str) -> None:
    authority = trustme.CA(organization_name="A test's own")
    certificate = authority.issue_cert(
        "127.0.0.1",
        not_before=datetime.now(UTC) - timedelta(days=100),
        not_after=datetime.now(UTC) + timedelta(days=days, hours=1),
    )
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    with server(context=context) as port:
        account = Account(base_url=f"https://127.0.0.1:{port}", ca_file=tmp_path / "ca.pem")
        findings = found(account)
        stranger = found(Account(base_url=f"https://127.0.0.1:{port}"))
    assert findings["TLS"].state == state
    if state == "failed":
        assert "expired" in findings["TLS"].found
        assert "clock" in findings["TLS"].advice
        assert "HTTP" not in findings
    else:
        assert f"issued by A test's own, {days} days left" in findings["TLS"].found
        assert findings["HTTP"].state == "ok"
        assert stranger["TLS"].state == "failed"
        assert "--ca-file" in stranger["TLS"].advice


@pytest.mark.parametrize(
    ("ahead", "state", "says"),
    [
        (timedelta(), "ok", "agrees"),
        (timedelta(hours=5), "warning", "behind"),
        (-timedelta(days=400), "warning", "ahead of"),
    ],
)
def test_a_clock_that_is_wrong_is_noticed(ahead: timedelta, state: str, says: str) -> None:
    with server(date=datetime.now(UTC) + ahead) as port:
        clock = found(Account(base_url=f"http://127.0.0.1:{port}"))["clock"]
    assert clock.state == state
    assert says in clock.found


def test_a_server_that_sends_no_time_is_fine() -> None:
    with server() as port:
        assert found(Account(base_url=f"http://127.0.0.1:{port}"))["clock"].state == "ok"


def ledger_findings(place: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in _doctor._ledger(Account(api_id="id"), str(place))}


def test_a_ledger_on_a_network_file_system_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_file, "_file_system", lambda path: "nfs4")
    findings = ledger_findings(tmp_path / "answers.ledger")
    assert findings["locks"].state == "failed"
    assert "network file system (nfs4)" in findings["locks"].found
    assert "--ledger PATH" in findings["locks"].advice
    assert not os.listdir(tmp_path)


def test_a_read_only_folder_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **keywords: object) -> str:  # root can write anywhere
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    findings = ledger_findings(tmp_path / "answers.ledger")
    assert findings["locks"].state == "failed"
    assert "local folder that you may write to" in findings["locks"].advice


def test_a_usable_ledger_folder_is_left_unchanged(tmp_path: Path) -> None:
    findings = ledger_findings(tmp_path / "answers.ledger")
    assert [finding.state for finding in findings.values()] == ["ok"] * len(findings)
    assert not os.listdir(tmp_path)


@contextmanager
def silent_server() -> Iterator[int]:
    """Accept connections and send nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(("scheme", "line"), [("https", "TLS"), ("http", "HTTP")])
def test_a_server_that_hangs_is_reported_as_a_timeout(
    monkeypatch: pytest.MonkeyPatch, scheme: str, line: str
) -> None:
    monkeypatch.setattr(_doctor, "_SECONDS", 0.2)
    with silent_server() as port:
        findings = found(Account(base_url=f"{scheme}://127.0.0.1:{port}"))
    assert findings["TCP"].state == "ok"
    assert (findings[line].state, findings[line].found) == ("failed", "no answer within 0.2 s")


def test_a_port_without_tls_says_so() -> None:
    with server() as port:
        findings = found(Account(base_url=f"https://127.0.0.1:{port}"))
    assert (findings["TLS"].state, findings["TLS"].found) == ("failed", "the server answers without TLS")
    assert "https port" in findings["TLS"].advice


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize(("content", "says"), [(None, "No such file or directory"), ("not PEM", "ca.pem")])
def test_an_invalid_ca_file_is_a_failure(tmp_path: Path, scheme: str, content: str | None, says: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    findings = found(Account(base_url=f"{scheme}://127.0.0.1:1", ca_file=path))
    assert findings["CA file"].state == "failed"
    assert says in findings["CA file"].found
    assert "PEM" in findings["CA file"].advice


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: _Usage())
    findings = {finding.what: finding for finding in _doctor._ledger(Account(), str(tmp_path / "leads.db"))}
    assert findings["disk"].state == "warning"
    assert "free some space" in findings["disk"].advice


class _Usage:
    free = 1_000_000
