from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from accucheck.cli._exit import Interrupted, Interruption


def test_outside_of_a_phase_a_signal_ends_the_command() -> None:
    with Interruption() as interruption, pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGINT)
    assert interruption.first is signal.SIGINT
    assert interruption.exit_code == 130


def test_in_a_phase_the_first_signal_asks_and_the_second_exits() -> None:
    seen: list[str] = []
    with (
        Interruption() as interruption,
        interruption.phase(first=lambda: seen.append("first"), second=lambda: seen.append("second")),
    ):
        signal.raise_signal(signal.SIGTERM)
        assert seen == ["first"]
        signal.raise_signal(signal.SIGINT)
    assert seen == ["first", "second"]
    assert interruption.exit_code == 143


def test_the_second_signal_counts_from_the_start_of_the_command_not_of_the_phase() -> None:
    seen: list[str] = []
    with Interruption() as interruption:
        with interruption.phase(first=lambda: seen.append("stop")):
            signal.raise_signal(signal.SIGINT)
        with (
            interruption.phase(first=lambda: seen.append("finish")),
            pytest.raises(Interrupted),
        ):
            signal.raise_signal(signal.SIGINT)
    assert seen == ["stop"]


def test_a_third_signal_is_left_to_the_system() -> None:
    with (
        Interruption() as interruption,
        interruption.phase(first=lambda: None, second=lambda: None),
    ):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.fixture
def heard_hang_up() -> Iterator[None]:
    """SIGHUP is not ignored, even if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heard_hang_up")
def test_repeated_hang_ups_count_as_one() -> None:
    seen: list[str] = []
    with (
        Interruption() as interruption,
        interruption.phase(first=lambda: seen.append("first"), second=lambda: seen.append("second")),
    ):
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert seen == ["first"]
        signal.raise_signal(signal.SIGINT)
    assert seen == ["first", "second"]
    assert interruption.exit_code == 129


def test_a_run_under_nohup_survives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
        assert interruption.first is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_previous_signal_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
