"""The proof of order: what a tracing device wrote down, held against what each step may rely on.

Steps of one stream happen in order. A wait happens after the mark it waits for, and `synchronise` holds the host, so
that everything handed out later happens after all of that stream. Nothing else is known: two steps without such a
chain between them may happen at the same time, whatever their order in the log.

Order alone does not say whose data a step finds. So each step also carries the capture that it is for: what it writes
holds that capture from then on, and what it reads must hold it still.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import pytest

import engine.engine
from engine.devices.tracing import Step, TracingDevice


@dataclass(frozen=True)
class Of(Step):
    """A step and its capture, numbered from 1 in the order in which they came to the device; 0: not known."""

    capture: int = 0


class _Stamped(list[Step]):
    """A log whose steps carry the capture that the thread is at work on."""

    def __init__(self) -> None:
        self.at = threading.local()

    def append(self, step: Step) -> None:
        values = {each.name: getattr(step, each.name) for each in fields(step)}
        super().append(Of(**values, capture=getattr(self.at, "capture", 0)))


class Following(TracingDevice):
    """A tracing device that notes of each step which capture it is for."""

    def __init__(self) -> None:
        super().__init__()
        self.log: _Stamped = _Stamped()
        self._captures = 0
        self._rendered: list[
            tuple[object, int]
        ] = []  # images and their captures; kept, so that no identity comes twice

    @contextmanager
    def followed(self) -> Iterator[list[Step]]:
        """Make all engines of this process number the captures that they render and infer."""

        def making(step: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any) -> Any:
                self._captures += 1
                number = self.log.at.capture = self._captures
                rendered = step(*arguments)
                self._rendered.append((rendered, number))
                return rendered

            return call

        def looking(step: Callable[..., Any]) -> Callable[..., Any]:
            def call(rendered: object, *arguments: Any) -> Any:
                self.log.at.capture = next(number for made, number in self._rendered if made is rendered)
                return step(rendered, *arguments)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name, follow in (("front_end", making), ("upload_image", making), ("find", looking)):
                patch.setattr(engine.engine, name, follow(getattr(engine.engine, name)))
            yield self.log


def races(log: Sequence[Step]) -> list[str]:
    """Pairs of steps that touch one array, one of them writing, with nothing that orders them; and waits for marks
    that nobody has set. Empty where the order is proven."""
    found: list[str] = []
    before: list[set[int]] = []  # of each step, all steps that are known to be done when it begins
    last: dict[str, int] = {}  # of each stream
    marks: dict[str, int] = {}
    host: set[int] = set()  # done before anything that is handed out from now on
    for number, step in enumerate(log):
        known = set(host)
        if step.stream in last:
            known |= before[last[step.stream]] | {last[step.stream]}
        if step.what == "wait":
            if step.mark not in marks:
                found.append(f"{step.stream} waits for {step.mark!r}, which nobody has set")
            else:
                known |= before[marks[step.mark]] | {marks[step.mark]}
        before.append(known)
        last[step.stream] = number
        if step.what == "record":
            marks[step.mark] = number
        if step.what == "synchronise":
            host |= known | {number}
        for earlier in range(number):
            clash = _clash(log[earlier], step)
            if clash and earlier not in known:
                found.append(f"{_told(log[earlier])} and {_told(step)}: both at {clash}")
    return found


def strangers(log: Sequence[Step]) -> list[str]:
    """Reads of an array that holds another capture than the reader's, or was never written. The log's order is what
    happens, where `races` finds nothing. Empty where every step finds its own capture's data."""
    found: list[str] = []
    holds: dict[str, int] = {}
    for step in log:
        capture = step.capture if isinstance(step, Of) else 0
        for name in step.reads:
            if name not in holds:
                found.append(f"{_told(step)} reads {name}, which nobody has written")
            elif holds[name] != capture:
                found.append(f"{_told(step)} for capture {capture} reads {name}, which holds capture {holds[name]}")
        holds.update(dict.fromkeys(step.writes, capture))
    return found


def _clash(first: Step, second: Step) -> str:
    """An array that both touch and one of them changes; empty where there is none."""
    shared = (set(first.writes) & {*second.reads, *second.writes}) | (set(first.reads) & set(second.writes))
    return ", ".join(sorted(shared))


def _told(step: Step) -> str:
    return f"{step.what} {step.mark!r} on {step.stream}"
