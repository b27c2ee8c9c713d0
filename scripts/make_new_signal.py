"""Makes recordings of a signal that the shipped pack does not know: bursts of fast frequency sweeps.

    python scripts/make_new_signal.py FOLDER      writes FOLDER/sweeps_1 .. sweeps_7, SigMF pairs of 8 MB each

NumPy only, the same bytes every time. WiFi packets, FSK hops and a carrier lie beside the bursts; all of it is
labelled. The first five recordings are meant for training, the other two for trying what was trained.
"""

import sys
from pathlib import Path

import numpy as np
from make_demo import CENTRE_HZ, DURATION_S, RATE_HZ, WIFI_HALF_HZ

from engine.recordings.annotation import Annotation
from engine.recordings.writing import write_sigmf
from training.scenes.synthetic import fsk, place, wifi

RECORDINGS = 7
BAND_HZ = 3.2e6
SWEEP_S = 40e-6
SNR_DB = (12.0, 25.0)  # power in the burst's band over the noise in it


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, RECORDINGS + 1):
        iq, annotations = record(np.random.default_rng(number))
        iq *= 0.98 / np.abs(iq.view(np.float64)).max()
        write_sigmf(
            folder / f"sweeps_{number}",
            iq.astype(np.complex64),
            sample_rate_hz=RATE_HZ,
            center_freq_hz=CENTRE_HZ,
            annotations=sorted(annotations, key=lambda a: a.start_s),
            datatype="ci8",
            description="Made by scripts/make_new_signal.py: bursts of fast sweeps among others, noise",
        )
    sys.stderr.write(f"made {RECORDINGS} recordings in {folder}\n")


def record(rng: np.random.Generator) -> tuple[np.ndarray, list[Annotation]]:
    """One recording, complex128[n], and all that is in it."""
    n = round(DURATION_S * RATE_HZ)
    iq = (rng.standard_normal(n) + 1j * rng.standard_normal(n)) / np.sqrt(2)  # noise of power 1
    annotations = []
    for slot in range(6):  # bursts take turns, so that none covers another
        start_s, length_s = 0.004 + 0.032 * slot + float(rng.uniform(0, 0.004)), float(rng.uniform(0.005, 0.009))
        offset_hz = float(rng.uniform(-7.5e6, 7.5e6))
        snr_db = float(rng.uniform(*SNR_DB))
        _place(iq, sweeps(round(length_s * RATE_HZ), rng), start_s, offset_hz, _level(snr_db, BAND_HZ))
        annotations.append(_box("sweeps", start_s, length_s, offset_hz, BAND_HZ))
    for slot in range(6):
        start_s, length_s = 0.022 + 0.032 * slot + float(rng.uniform(0, 0.002)), float(rng.uniform(0.001, 0.004))
        _place(iq, wifi(round(length_s * RATE_HZ), rng), start_s, 0.0, _level(18.0, 2 * WIFI_HALF_HZ))
        annotations.append(_box("wifi_ofdm", start_s, length_s, 0.0, 2 * WIFI_HALF_HZ))
    for slot in range(8):
        start_s, offset_hz = 0.016 + 0.021 * slot, float(rng.uniform(-9e6, 9e6))
        _place(iq, fsk(round(0.0012 * RATE_HZ), rng), start_s, offset_hz, 0.9)
        annotations.append(_box("other", start_s, 0.0012, offset_hz, 1.2e6))
    _place(iq, np.ones(n), 0.0, float(rng.uniform(-9e6, 9e6)), 0.2)
    return iq, annotations


def sweeps(n: int, rng: np.random.Generator) -> np.ndarray:
    """complex128[n]: the frequency runs up through the band, over and over, power 1."""
    place_in_sweep = (np.arange(n) / RATE_HZ / SWEEP_S + rng.random()) % 1
    return np.exp(2j * np.pi * np.cumsum((place_in_sweep - 0.5) * BAND_HZ) / RATE_HZ)


def _place(iq: np.ndarray, burst: np.ndarray, start_s: float, offset_hz: float, amplitude: float) -> None:
    place(iq, burst, round(start_s * RATE_HZ), offset_hz / RATE_HZ, amplitude)


def _level(snr_db: float, band_hz: float) -> float:
    return float(10 ** (snr_db / 20) * np.sqrt(band_hz / RATE_HZ))


def _box(label: str, start_s: float, length_s: float, offset_hz: float, band_hz: float) -> Annotation:
    middle_hz = CENTRE_HZ + offset_hz
    return Annotation(label, start_s, start_s + length_s, middle_hz - band_hz / 2, middle_hz + band_hz / 2, "")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
