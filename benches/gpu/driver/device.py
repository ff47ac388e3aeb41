"""What the driver asks of a GPU. `cuda.py` has one; `mock.py` pretends."""

from dataclasses import dataclass
from typing import Any


class Fatal(Exception):
    """Ends the run with one line."""


class DeviceError(Exception):
    """An implementation failed; `poisoned` if nothing else can run in this process any more, `again` if it may not fail
    the next time."""

    MEMORY = ("out of memory", "outofmemory", "out_of_memory", "alloc_failed")

    def __init__(self, message, poisoned=False):
        super().__init__(" ".join(str(message).split())[:500])
        self.poisoned = poisoned
        self.again = poisoned or any(word in str(self).lower() for word in self.MEMORY)


@dataclass
class Ready:
    """An implementation that has run once, compared, and can be timed."""

    impl: Any
    config: str
    rel_rms: float
    launches: int
    copies: int
    graph: Any = None
    kept: Any = None  # of ours, what one launch alone gave


class Device:
    mock = False
    l2_bytes = 50 << 20

    def now(self):
        """Seconds since the run began."""
        raise NotImplementedError

    def identity(self):
        """What must not change between the runs of one folder."""
        raise NotImplementedError

    def describe(self):
        """More of the device, the driver and the versions."""
        raise NotImplementedError

    def spent(self, seconds):
        """Tells a simulated clock that something else took so long."""

    def candidates(self, case, rank):
        """What our library could take: [{"kernel", "number", "chosen", ...}]."""
        raise NotImplementedError

    def begin(self, case):
        """Operands of a case, with weights in copies; those of the last case go."""
        raise NotImplementedError

    def ready(self, impl):
        """Builds an implementation, compares what it computes, and captures it in a graph. Raises DeviceError."""
        raise NotImplementedError

    def sample(self, ready, index):
        """Microseconds a launch and MHz; an index below 0 is to warm up only. Raises DeviceError."""
        raise NotImplementedError

    def steady(self, ready):
        """Whether the launches of the last sample, which was this one's, gave the bits of one alone; asked of ours.
        Raises DeviceError."""
        raise NotImplementedError

    def close(self):
        """Gives back what it holds, at the end of a run in which nothing broke."""
