"""Speech-like and music-like noise on an FM carrier.

TorchSig's own FM is left aside: it filters white noise to the audio band without bringing it back to full
level, so its deviation falls with the root of the sample rate, and at 20 MS/s hardly more than a carrier is left.
"""

from typing import Final, Literal

import numpy as np
from scipy import signal

Programme = Literal["voice", "music"]

AUDIO_HZ: Final[dict[Programme, tuple[float, float]]] = {"voice": (300.0, 3000.0), "music": (50.0, 15e3)}
AUDIO_OVERSAMPLING: Final = 8  # audio is made at this many times its highest frequency
SETTLING_SAMPLES: Final = 4096  # of the audio filter, left out
PEAK_SIGMAS: Final = 2.0  # audio beyond is clipped, as a transmitter's limiter does
LOUDNESS_RATE_HZ: Final = 10.0  # speech gets louder and softer about as fast as this


def frequency_modulated(
    rng: np.random.Generator,
    programme: Programme,
    bandwidth_hz: float,
    sample_rate_hz: float,
    samples: int,
) -> np.ndarray:
    """complex64[samples] of constant amplitude 1. The peak deviation follows from Carson's rule
    (Carson 1922), bandwidth = 2 (deviation + highest audio frequency); 99 % of the power lie in somewhat less."""
    low_hz, high_hz = AUDIO_HZ[programme]
    step = int(sample_rate_hz // (AUDIO_OVERSAMPLING * high_hz))
    audio_rate_hz = sample_rate_hz / step
    count = samples // step + 64
    band = signal.butter(3, [low_hz, high_hz], "bandpass", fs=audio_rate_hz, output="sos")
    audio = signal.sosfilt(band, rng.standard_normal(count + SETTLING_SAMPLES))[SETTLING_SAMPLES:]
    audio /= np.std(audio)
    if programme == "voice":
        loudness = rng.uniform(0.2, 1.2, int(LOUDNESS_RATE_HZ * count / audio_rate_hz) + 4)
        audio *= np.interp(np.linspace(0, len(loudness) - 1, count), np.arange(len(loudness)), loudness)
    deviation_hz = (bandwidth_hz / 2 - high_hz) * np.clip(audio / PEAK_SIGMAS, -1, 1)
    turns = np.cumsum(np.interp(np.arange(samples) / step, np.arange(count), deviation_hz)) / sample_rate_hz
    return np.asarray(np.exp(2j * np.pi * (turns % 1.0)).astype(np.complex64))
