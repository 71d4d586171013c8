"""A conversation with ``deepmill serve``, as any client of OpenAI's API has it: streamed, the reasoning apart.

    python examples/chat.py "Calculate 4 + 8 + 4."

DEEPMILL_URL and DEEPMILL_KEY say where the server is and its key; without them it is the one on this machine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from openai import OpenAI

KEY = Path("store/serving/api-key")


def main(question: str) -> None:
    """Print the reasoning as it comes, then the answer."""
    client = OpenAI(
        base_url=f"{os.environ.get('DEEPMILL_URL', 'http://127.0.0.1:8000')}/v1",
        api_key=os.environ.get("DEEPMILL_KEY") or KEY.read_text().strip(),
    )
    model = client.models.list().data[0].id
    part = ""
    for chunk in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, stream=True
    ):
        for choice in chunk.choices:
            thought = getattr(choice.delta, "reasoning_content", None)
            kind, text = ("reasoning", thought) if thought else ("answer", choice.delta.content)
            if text:
                print("" if kind == part else f"\n{kind}: ", text, sep="", end="", flush=True)
                part = kind
    print()


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]) or "Calculate 4 + 8 + 4.")
