"""The errors Hydra raises on purpose. Each message names the value at fault and what to do about it."""


class HydraError(Exception):
    """Base of every error raised on purpose; catch this one to catch them all."""


class InputError(HydraError, ValueError):
    """IQ handed to the engine cannot be used: wrong type, shape, length or metadata."""


class RecordingError(HydraError):
    """A recording's file is truncated, empty, foreign, or lies about itself."""


class StoreError(HydraError):
    """The model store is missing, damaged, or does not hold what was asked for."""


class CheckpointError(HydraError):
    """A legacy checkpoint is not what the network expects, or cannot be loaded safely."""


class GraphError(HydraError):
    """An ONNX graph is damaged, or holds what a graph from outside must not hold."""


class MismatchError(StoreError):
    """A head was made for another backbone or another front-end contract."""


class UnavailableError(HydraError):
    """A device, runtime or optional package was asked for and is not here."""


class ClosedError(HydraError):
    """The engine was used after it was closed."""


class DeviceError(HydraError):
    """A GPU failed while it was at work: out of memory, or an error that the driver reports."""
