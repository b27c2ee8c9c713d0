"""Scripted session for tests: outputs come from a function in place of a network."""

from collections.abc import Callable

import numpy as np

from .base import Arrays, Session


class ScriptedSession(Session):
    """Session whose `run` returns `script(feeds)`; the feeds of all runs are kept in `calls`."""

    runtime = "scripted"
    replayable = True

    def __init__(
        self, inputs: tuple[str, ...], outputs: tuple[str, ...], script: Callable[[Arrays], dict[str, np.ndarray]]
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.calls: list[Arrays] = []
        self.closed = False
        self._script = script

    def run(self, feeds: Arrays) -> dict[str, np.ndarray]:
        self.calls.append(feeds)
        return self._script(feeds)

    def close(self) -> None:
        self.closed = True
