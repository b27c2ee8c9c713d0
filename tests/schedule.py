"""The proof of order: what a recording device wrote down, held against what each step may rely on.

Steps of one stream happen in order. A wait happens after the mark it waits for, and `synchronise` holds the host, so
that everything handed out later happens after all of that stream. Nothing else is known: two steps without such a
chain between them may happen at the same time, whatever their order in the log.
"""

from collections.abc import Sequence

from engine.device import Step


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


def _clash(first: Step, second: Step) -> str:
    """An array that both touch and one of them changes; empty where there is none."""
    shared = (set(first.writes) & {*second.reads, *second.writes}) | (set(first.reads) & set(second.writes))
    return ", ".join(sorted(shared))


def _told(step: Step) -> str:
    return f"{step.what} {step.mark!r} on {step.stream}"
