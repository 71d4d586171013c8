"""What the GGUF files of a model take of a machine: computed, and measured with llama.cpp in a process each.

    python -m bench.device MODEL [--context 1024] [--threads 1]

MODEL is MODEL@ALIAS, an exported folder or a GGUF file. `computed` is `deepmill doctor --device`'s figure for this
kind of processor, `loaded` and `peak` what a process of llama.cpp's server grew by, `start` the time to a first token.
"""

from __future__ import annotations

import argparse
import platform

from flows.operations.device import device_files
from infra.settings import Settings
from infra.units import size
from model.release.footprint import Loading, Processor
from model.release.probe import BATCH, probe


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    processor = Processor.X86_64 if platform.machine() == "x86_64" else Processor.ARM64
    head = ("precision", "file", "computed", "loaded", "peak of 512 tokens", "start", "tokens/s")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for file in device_files(Settings(), asked.model):
        found = probe(file.path, context=asked.context, threads=asked.threads)
        computed = file.footprint(asked.context, Loading(batch=BATCH, processor=processor)).total
        sizes = [size(each or 0) for each in (file.bytes, computed, found.load_bytes, found.peak_bytes)]
        start, speed = f"{1000 * found.start_seconds:,.0f} ms", f"{found.tokens_per_second:,.0f}"
        print(f"| {' | '.join((file.precision, *sizes, start, speed))} |", flush=True)


if __name__ == "__main__":
    main()
