"""Makes the demonstration recording: 200 ms of the 2.4 GHz band with WiFi packets and things that are not.

    python scripts/make_demo.py FOLDER      writes FOLDER/demo.sigmf-meta and .sigmf-data, 8 MB

NumPy only, the same bytes every time. The packets are OFDM as in IEEE 802.11a (64 subcarriers 312.5 kHz apart,
52 in use, 800 ns guard), with random data; a frequency-hopping FSK link and a carrier lie beside them.
Every packet is annotated, so detections can be held against the truth.
"""

import sys
from pathlib import Path

import numpy as np

from engine.recordings.annotation import Annotation
from engine.recordings.writing import write_sigmf
from training.scenes.synthetic import WIFI_BAND, fsk, place, wifi

RATE_HZ = 20e6
CENTRE_HZ = 2.437e9
DURATION_S = 0.2
WIFI_HALF_HZ = WIFI_BAND / 2 * RATE_HZ
PACKETS = (  # start in s, length in s, offset of the centre in Hz, SNR in dB
    (0.012, 0.0030, 0.0, 22.0),
    (0.031, 0.0015, 0.6e6, 18.0),
    (0.048, 0.0042, -1.2e6, 26.0),
    (0.071, 0.0022, 0.0, 14.0),
    (0.095, 0.0055, 0.9e6, 24.0),
    (0.122, 0.0026, -0.4e6, 17.0),
    (0.148, 0.0035, 0.0, 20.0),
    (0.176, 0.0048, -1.0e6, 28.0),
)


def main(folder: Path) -> None:
    rng = np.random.default_rng(2437)
    n = round(DURATION_S * RATE_HZ)
    iq = (rng.standard_normal(n) + 1j * rng.standard_normal(n)) / np.sqrt(2)  # noise of power 1
    annotations = []
    for start_s, length_s, offset_hz, snr_db in PACKETS:
        burst = wifi(round(length_s * RATE_HZ), rng)
        place(
            iq,
            burst,
            round(start_s * RATE_HZ),
            offset_hz / RATE_HZ,
            10 ** (snr_db / 20) * np.sqrt(2 * WIFI_HALF_HZ / RATE_HZ),
        )
        low_hz, high_hz = CENTRE_HZ + offset_hz - WIFI_HALF_HZ, CENTRE_HZ + offset_hz + WIFI_HALF_HZ
        annotations.append(Annotation("wifi_ofdm", start_s, start_s + length_s, low_hz, high_hz, f"{snr_db:g} dB"))
    for hop in range(12):
        start_s, offset_hz = 0.005 + 0.0161 * hop, float(rng.uniform(-9e6, 9e6))
        place(iq, fsk(round(0.0012 * RATE_HZ), rng), round(start_s * RATE_HZ), offset_hz / RATE_HZ, 0.9)
        box = (start_s, start_s + 0.0012, CENTRE_HZ + offset_hz - 0.6e6, CENTRE_HZ + offset_hz + 0.6e6)
        annotations.append(Annotation("other", *box, "frequency-hopping FSK"))
    place(iq, np.ones(n), 0, 7.3e6 / RATE_HZ, 0.2)
    iq *= 0.98 / np.abs(iq.view(np.float64)).max()
    meta = write_sigmf(
        folder / "demo",
        iq.astype(np.complex64),
        sample_rate_hz=RATE_HZ,
        center_freq_hz=CENTRE_HZ,
        annotations=sorted(annotations, key=lambda a: a.start_s),
        datatype="ci8",
        description="Made by scripts/make_demo.py: OFDM packets as in IEEE 802.11a, FSK hops, a carrier, noise",
    )
    sys.stderr.write(f"made {meta}: {len(PACKETS)} wifi_ofdm packets in {DURATION_S * 1e3:g} ms\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
