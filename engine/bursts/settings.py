"""Settings of the burst search in a band's envelope."""

from dataclasses import dataclass, replace
from typing import Final

from engine.contract import Contract


@dataclass(frozen=True)
class BurstSettings:
    """Sizes, thresholds and limits. Levels in dB of power, times in envelope steps where no unit is named."""

    sizes: tuple[int, ...] = (128, 4096)  # points of the fine STFTs, Hann, hop half
    overlap: int = 1  # STFT frames that hold a sample
    cells: float = 8.0  # bins that a band is resolved into, at most, when its envelope is taken
    least_cells: float = 12.0  # duration times bandwidth that one envelope value averages over
    per_mean: int = 4  # envelope steps in the moving mean of that length
    above_floor_db: tuple[float, ...] = (6.0, 10.0, 16.0, 24.0)
    below_top_db: tuple[float, ...] = (4.0, 8.0, 13.0, 20.0)
    level_step_db: float = 1.5  # between two levels, at least
    range_db: float = 60.0  # below the strongest value nothing is searched
    floor_quantile: float = 0.1
    deep_quantile: float = 0.02  # of a band that is hardly ever free
    deep_margin_db: float = 4.0  # of a level below the top over that one
    most_runs: int = 2000  # of a level; one with more lies inside the noise
    most_groups: int = 500  # of a level and gap length
    least_contrast_db: float = 3.0  # of a burst over the gaps beside it
    most_contrast_db: float = 20.0  # that counts
    fewest_cells: float = 12.0  # duration times bandwidth of a burst
    most_cells: float = 100.0  # duration times bandwidth from which on it hardly counts
    most_octaves: float = 4.0  # between the gaps beside a burst and those inside
    trim: float = 0.06  # of a burst's strong part, at its edges
    per_band: int = 100  # bursts of a band
    bands: int = 32  # searched in one pass
    same_band: float = 0.75  # IoU in frequency of two bands that are one
    passes: int = 1
    refined: int = 300  # bursts of a pass whose band is measured
    own: int = 64  # regions whose own band is measured
    steady: float = 0.95  # of the capture, from which on a region is steady
    spectra: int = 16  # frames averaged for a burst's spectrum
    spectrum_bins: float = 64.0  # that a band is resolved into, at most, when it is measured
    share: float = 0.99  # of the power in a band
    connected: tuple[float, ...] = (0.01,)  # of the strongest bin
    same_iou: float = 0.85
    same_span: float = 0.7  # IoU in time of two boxes of one burst
    family: int = 4  # bands of one burst that come before the rest
    per_region: float = 2.0  # bursts to each region among the candidates
    limit: int = 512


WIDE: Final = BurstSettings()
NARROW: Final = replace(WIDE, sizes=(64, 256, 1024, 4096), overlap=2, most_runs=6000)
NARROW_SAMPLES: Final = 1_000_000  # captures of up to so many are searched at every resolution


def settings_for(contract: Contract) -> BurstSettings:
    """As fine a search as a capture of the contract's length leaves time for."""
    return NARROW if contract.capture_samples <= NARROW_SAMPLES else WIDE
