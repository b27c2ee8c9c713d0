"""The command line: `g20`, or `python -m hydra_rf`."""

from app.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
