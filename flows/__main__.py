"""The script ``deepmill``, and ``python -m flows``: Ctrl-C leaves quietly while commands are still imported."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """See `flows.cli.main`."""
    try:
        from flows.cli import main as run

        run()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
