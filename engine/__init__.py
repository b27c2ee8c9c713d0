"""Hydra's run time: raw IQ in, signals out as boxes in seconds and hertz. No torch in here."""
