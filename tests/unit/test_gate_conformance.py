"""The conformance suite on our own gates, in virtual time and once in real time on each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from accucheck import AdaptiveGate, Gate, UnlimitedGate
from tests import virtual_time
from tests.gate_conformance import GateConformance


class InVirtualTime(GateConformance):
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        virtual_time.run(main)


class TestAdaptiveGate(InVirtualTime):
    async def make(self, rate: float) -> Gate:
        return AdaptiveGate(rate)


class TestAdaptiveGateWithABurst(InVirtualTime):
    async def make(self, rate: float) -> Gate:
        return AdaptiveGate(rate, burst=2)


class TestUnlimitedGate(InVirtualTime):
    limits = False

    async def make(self, rate: float) -> Gate:
        return UnlimitedGate()


class TestAdaptiveGateOnAsyncio(GateConformance):
    async def make(self, rate: float) -> Gate:
        return AdaptiveGate(rate)


class TestAdaptiveGateOnUvloop(GateConformance):
    async def make(self, rate: float) -> Gate:
        return AdaptiveGate(rate)

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        uvloop = pytest.importorskip("uvloop")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)
