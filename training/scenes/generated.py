"""Generated bursts: one signal alone, without noise, near 0 Hz, made with TorchSig's signal generators.

`python -m training.scenes.generated OUT --contract wideband --per-class 40` writes OUT/wideband/<label>/<seed>.npz.
A burst depends on contract, label and seed alone; files that exist are left as they are, so that a stopped
run can be started again. TorchSig is imported when the first burst is made.
"""

import argparse
import importlib
import sys
import types
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import signal

from engine.contract import CONTRACTS
from engine.errors import UnavailableError

from .bursts import Burst, save_burst
from .fm import AUDIO_HZ, frequency_modulated

OCCUPIED_SHARE: Final = 0.99  # of a burst's power lies in its band
ACTIVE_LEVEL: Final = 0.1  # of the root mean square; a burst starts and ends with a sample above it
WIFI_CONSTELLATIONS: Final = ("bpsk", "qpsk", "16qam", "64qam")
LORA_FACTORS: Final = (7, 8, 9, 10, 11, 12)  # spreading factors; a symbol lasts 2**factor / bandwidth
LORA_FRAME_SYMBOLS: Final = 20  # a preamble of 12.25 and a few of data
TORCHSIG_MISSING: Final = (
    "generated bursts need TorchSig: pip install numba h5py PyYAML soundfile opencv-python-headless tqdm "
    "and pip install --no-deps torchsig==2.2.0 torchaudio==2.11.0"
)


@dataclass(frozen=True)
class Recipe:
    """Parameters of the bursts of one label: bandwidth log-uniform within a range, or one of fixed values.

    `bandwidth_hz` is what the generator calls so: the symbol, chip or channel rate for most classes. The
    band written with a burst is always measured on the burst.
    """

    label: str
    classes: tuple[str, ...]  # TorchSig's names, or this package's own "voice" and "music" on FM
    duration_s: tuple[float, float]
    bandwidth_hz: tuple[float, float] = (0.0, 0.0)
    fixed_hz: tuple[float, ...] = ()


RECIPES: Final = {
    "wideband": (
        Recipe("wifi_ofdm", ("80211a",), (0.3e-3, 6e-3), fixed_hz=(20e6,)),
        Recipe("btle", ("btle",), (0.3e-3, 4e-3), fixed_hz=(1e6, 2e6)),
        Recipe("zigbee", ("zigbee",), (0.6e-3, 4.3e-3), fixed_hz=(2e6,)),
        Recipe("lora", ("lora",), (10e-3, 120e-3), fixed_hz=(125e3, 250e3, 500e3)),
        Recipe("gsm", ("gsm",), (0.577e-3, 40e-3), fixed_hz=(270_833,)),
        Recipe("lfm_radar", ("lfm-radar",), (0.5e-3, 20e-3), (0.5e6, 8e6)),
        Recipe("gfsk", ("2gfsk",), (0.5e-3, 20e-3), (0.3e6, 2e6)),
        Recipe("fsk", ("2fsk",), (5e-3, 60e-3), (50e3, 500e3)),
        Recipe("ook", ("ook",), (5e-3, 60e-3), (50e3, 300e3)),
        Recipe("ofdm", ("ofdm-300", "ofdm-600", "ofdm-900", "ofdm-1200"), (1e-3, 20e-3), (3e6, 9e6)),
        Recipe("psk_qam", ("qpsk", "16qam"), (1e-3, 40e-3), (0.5e6, 6e6)),
        Recipe("fm", ("music",), (20e-3, 150e-3), (100e3, 300e3)),
        Recipe("adsb", ("adsb-long",), (120e-6, 120e-6), fixed_hz=(2e6,)),
    ),
    "ism": (
        Recipe("ook", ("ook",), (10e-3, 120e-3), (5e3, 80e3)),
        Recipe("fsk", ("2fsk",), (10e-3, 150e-3), (10e3, 150e3)),
        Recipe("gfsk", ("2gfsk",), (5e-3, 100e-3), (20e3, 250e3)),
        Recipe("lora", ("lora",), (20e-3, 200e-3), fixed_hz=(62.5e3, 125e3, 250e3)),
        Recipe("nfm", ("voice",), (80e-3, 200e-3), (10e3, 16e3)),
        Recipe("fsk4", ("4fsk",), (30e-3, 150e-3), (9e3, 12.5e3)),
        Recipe("chirp", ("lfm-radar", "lfm-data"), (10e-3, 100e-3), (20e3, 300e3)),
        Recipe("psk_qam", ("qpsk",), (20e-3, 150e-3), (10e3, 200e3)),
    ),
}


def make_burst(contract_name: str, recipe: Recipe, seed: int) -> Burst:
    """One burst; the same arguments give the same samples. Raises UnavailableError without TorchSig."""
    rate_hz = CONTRACTS[contract_name].sample_rate_hz
    rng = np.random.default_rng([zlib.crc32(f"{contract_name}/{recipe.label}".encode()), seed])
    class_name = str(rng.choice(recipe.classes))
    duration_s = _log_uniform(rng, *recipe.duration_s)
    bandwidth_hz = float(rng.choice(recipe.fixed_hz or [_log_uniform(rng, *recipe.bandwidth_hz)]))
    samples = round(duration_s * rate_hz)
    programme = next((name for name in AUDIO_HZ if name == class_name), None)
    if programme is not None:
        maker = "own FM"
        iq = frequency_modulated(rng, programme, bandwidth_hz, rate_hz, samples)
    else:
        maker = "torchsig 2.2.0"
        iq = _torchsig(rng, class_name, bandwidth_hz, rate_hz, samples)
    iq = trim(iq)
    low_hz, high_hz = occupied_band(iq, rate_hz)
    return Burst(iq, rate_hz, low_hz, high_hz, recipe.label, f"{maker} {class_name} seed {seed}")


def occupied_band(iq: np.ndarray, sample_rate_hz: float, share: float = OCCUPIED_SHARE) -> tuple[float, float]:
    """Occupied bandwidth of complex64[n]: low and high edge (Hz) of the band with `share` of the power, half of the
    rest below and half above (99 %: ITU-R SM.328). Welch's method with segments of an eighth or less, edges
    interpolated within a bin."""
    segment = min(len(iq), 32768, max(256, 1 << (max(len(iq) // 8, 1).bit_length() - 1)))
    _, power = signal.welch(iq, sample_rate_hz, nperseg=segment, detrend=False, return_onesided=False)
    below = np.concatenate([[0.0], np.cumsum(np.fft.fftshift(power).astype(np.float64))])
    edges_hz = (np.arange(segment + 1) - segment // 2 - 0.5) * (sample_rate_hz / segment)
    low_hz, high_hz = np.interp([(1 - share) / 2, (1 + share) / 2], below / below[-1], edges_hz)
    return float(low_hz), float(high_hz)


def trim(iq: np.ndarray, level: float = ACTIVE_LEVEL) -> np.ndarray:
    """complex64[m] from the first to the last sample above `level` times the root mean square."""
    amplitude = np.abs(iq)
    active = np.flatnonzero(amplitude > level * np.sqrt(np.mean(amplitude**2)))
    return iq[active[0] : active[-1] + 1] if len(active) else iq[:0]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _torchsig(
    rng: np.random.Generator, class_name: str, bandwidth_hz: float, rate_hz: float, samples: int
) -> np.ndarray:
    """complex64[samples] of a TorchSig class. Pulse shape, constellation and spreading factor are set here."""
    lookup, modulate = _import_torchsig()
    if class_name in ("qpsk", "16qam"):  # by itself every other burst would have square pulses, 3 times as wide
        rolloff = rng.uniform(0.15, 0.5)
        return modulate(class_name, "srrc", bandwidth_hz, rate_hz, samples, rolloff, rng)
    over = 2 if bandwidth_hz > rate_hz / 2 else 1  # it refuses more than half the rate
    settings: dict[str, float | int | str] = {
        "sample_rate": rate_hz * over,
        "bandwidth_min": int(bandwidth_hz),
        "bandwidth_max": int(bandwidth_hz),
        "signal_duration_in_samples_min": samples * over,
        "signal_duration_in_samples_max": samples * over,
    }
    if class_name == "80211a":
        settings["constellation_name"] = str(rng.choice(WIFI_CONSTELLATIONS))
    if class_name == "lora":
        longest = samples / rate_hz * bandwidth_hz / LORA_FRAME_SYMBOLS  # chips of a symbol, so that a frame fits
        fitting = [factor for factor in LORA_FACTORS if 2**factor <= longest] or [LORA_FACTORS[0]]
        settings["sf"] = int(rng.choice(fitting))
    generator = lookup(class_name)
    for key, value in settings.items():
        generator[key] = value
    generator.seed(int(rng.integers(2**31)))
    iq: np.ndarray = generator().data
    return np.asarray(signal.resample_poly(iq, 1, over).astype(np.complex64)) if over > 1 else iq


def _import_torchsig() -> tuple[Callable[[str], Any], Callable[..., np.ndarray]]:
    """TorchSig's table of generators and its single-carrier modulator. It imports pytorch_lightning for the
    name of one base class; where that package is absent, an empty class of that name serves."""
    try:
        importlib.import_module("pytorch_lightning")
    except ImportError:
        stand_in = types.ModuleType("pytorch_lightning")
        vars(stand_in)["LightningDataModule"] = type("LightningDataModule", (), {})
        sys.modules["pytorch_lightning"] = stand_in
    try:
        table = importlib.import_module("torchsig.utils.signal_building")
        carriers = importlib.import_module("torchsig.signals.builders.constellation")
    except ImportError as error:
        raise UnavailableError(f"{TORCHSIG_MISSING} ({error})") from error
    return table.lookup_signal_generator_by_string, carriers.constellation_modulator


def write_bursts(folder: Path, contract_name: str, recipe: Recipe, seed: int) -> bool:
    """Write folder/<contract>/<label>/<seed>.npz, whole or not at all; False where it is there already."""
    path = folder / contract_name / recipe.label / f"{seed}.npz"
    if path.exists():
        return False
    partial = folder / "partial" / f"{contract_name}-{recipe.label}-{seed}.npz"
    save_burst(partial, make_burst(contract_name, recipe, seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(path)
    return True


def main(arguments: Sequence[str] | None = None) -> None:
    """Write bursts of every label of a contract; those that are there already are left as they are."""
    parser = argparse.ArgumentParser(prog="python -m training.scenes.generated", description=main.__doc__)
    parser.add_argument("folder", type=Path, metavar="OUT")
    parser.add_argument("--contract", choices=sorted(RECIPES), required=True)
    parser.add_argument("--per-class", type=int, default=40, help="bursts of each label")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    options = parser.parse_args(arguments)
    from tqdm import tqdm  # comes with the train extra

    seeds = range(options.seed, options.seed + options.per_class)
    work = [(recipe, seed) for seed in seeds for recipe in RECIPES[options.contract]]
    for recipe, seed in tqdm(work, desc=options.contract, unit="burst"):
        write_bursts(options.folder, options.contract, recipe, seed)


if __name__ == "__main__":
    main()
