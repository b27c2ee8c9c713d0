"""Files to read: noise, tones, and recordings of every format."""

import io
import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from engine.contract import Contract

SMALL = Contract(sample_rate_hz=20e3, capture_s=0.1)  # 2,000 samples a capture
REAL = Path(__file__).parents[2] / "shared" / "data"
# float32 sums over ~40 taps of unit-size numbers round to about 1e-6; ten times that is no transient
SAME = 1e-5
# the low pass is flat within 0.1 dB up to 87 % of the band, that is 1.2 % in amplitude
FLAT = 0.012


def noise(n: int, seed: int = 1) -> np.ndarray:
    """complex64[n] within -1..+1 on both axes."""
    parts = np.random.default_rng(seed).uniform(-1, 1, 2 * n).astype(np.float32)
    return parts.view(np.complex64)


def tone(n: int, freq_hz: float, rate_hz: float) -> np.ndarray:
    return (0.5 * np.exp(2j * np.pi * freq_hz / rate_hz * np.arange(n))).astype(np.complex64)


def sigmf(folder: Path, data: bytes = b"\1\2" * 100, **changes: Any) -> Path:
    """A ci8 pair at 1 kS/s with changes to the global object; a value of None takes the key out."""
    about: dict[str, Any] = {"core:datatype": "ci8", "core:sample_rate": 1000.0, "core:version": "1.2.0"}
    sections = {key: changes.pop(key) for key in ("captures", "annotations") if key in changes}
    about.update({f"core:{key}": value for key, value in changes.items()})
    about = {key: value for key, value in about.items() if value is not None}
    path = folder / "x.sigmf-meta"
    path.write_text(json.dumps({"global": about, "captures": [], "annotations": [], **sections}))
    path.with_suffix(".sigmf-data").write_bytes(data)
    return path


def tar(path: Path, members: dict[str, bytes], *, mode: str = "w:", link: str = "") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            archive.addfile(info)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def packed(folder: Path) -> dict[str, bytes]:
    """The members of a good archive."""
    meta = sigmf(folder)
    return {"x/x.sigmf-meta": meta.read_bytes(), "x/x.sigmf-data": meta.with_suffix(".sigmf-data").read_bytes()}


def wav(
    path: Path, data: bytes, *, tag: int = 1, bits: int = 16, channels: int = 2, rate: int = 48_000,
    before: bytes = b"", form: str = "RIFF", claimed: int | None = None,
) -> Path:  # fmt: skip
    block = channels * bits // 8
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, tag, channels, rate, rate * block, block, bits)
    size = len(data) if claimed is None else claimed
    body = b"WAVE" + before + fmt + struct.pack("<4sI", b"data", size) + data
    path.write_bytes(form.encode() + struct.pack("<I", len(body) & 0xFFFFFFFF) + body)
    return path
