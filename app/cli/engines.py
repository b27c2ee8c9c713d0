"""The engine for a recording: of the store given, or of the one found whose sample rate is nearest to the recording's.

Beside a store found by the search path, `<name>-ism` may hold heads for another sample rate. Heads are only asked about
recordings of about their own rate: a narrow recording stretched to 20 MS/s gives wrong answers.
"""

import math
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from engine.engine import Engine
from engine.recordings.recording import Recording
from engine.store.finding import is_store
from engine.store.registry import Store

from .options import located
from .output import say

BESIDE = "-ism"  # ending of the name of a second store, for other sample rates


class Engines:
    """Engines by store, each opened when it is first needed and closed at the end of the block."""

    def __init__(self, models: Path | None, signals: list[str] | None, **options: Any) -> None:
        self._signals, self._options = signals, options
        first = located(models)
        second = first.with_name(first.name + BESIDE)
        self._stores = [first] + ([second] if models is None and self._serves(second) else [])
        self._open: dict[Path, Engine] = {}
        self._stack = ExitStack()
        self.first = self._engine(first)

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of all signals that may be printed."""
        return tuple(name for store in self._stores for name in Store(store).signals())

    def of(self, recording: Recording) -> Engine:
        """The engine whose contract's sample rate is nearest to that of the recording, in octaves."""
        chosen = min(self._stores, key=lambda store: abs(math.log(_rate_hz(store) / recording.sample_rate_hz)))
        if chosen != self._stores[0]:
            say(
                f"{recording.path.name}: {recording.sample_rate_hz / 1e6:g} MS/s, so {chosen} detects in it; "
                f"--models {self._stores[0]} takes the other"
            )
        return self._engine(chosen)

    def _serves(self, store: Path) -> bool:
        return is_store(store) and (self._signals is None or set(self._signals) <= set(Store(store).signals()))

    def _engine(self, store: Path) -> Engine:
        if store not in self._open:
            self._open[store] = self._stack.enter_context(Engine.open(store, signals=self._signals, **self._options))
        return self._open[store]

    def __enter__(self) -> "Engines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _rate_hz(store: Path) -> float:
    return Store(store).release().contract.sample_rate_hz
