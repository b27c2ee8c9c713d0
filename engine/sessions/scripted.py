"""A session that plays back what it is told: for tests of everything around the network."""

from collections.abc import Callable

import numpy as np

from .base import Arrays


class ScriptedSession:
    """Answers every run with `script(feeds)` and keeps the feeds in `calls`."""

    runtime = "scripted"

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
