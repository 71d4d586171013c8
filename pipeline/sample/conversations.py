"""Everyday conversations for the sample's models: greetings, thanks, who they are, what they can do, what they cannot,
and sums asked in other words and one after the other. Written here, so that nobody else's words are in them.

Their sums are worked out in lines, or `in_digits`, as the tasks of a recipe are that has `known_sums: 9` and
`remaining`: a model that is taught two ways to work takes the one that it knows less well now and then.

`sums` are those of three numbers that conversations hold. A recipe names their file in ``reasoning.exclude``, and so
none of them is a question that the model is tested on; `pairs` are of two. `EVERYDAY` is in no conversation: what a
finished model is asked.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import cycle, product
from pathlib import Path

from infra.json_objects import JsonObject
from pipeline.reasoning.chains import KNOWN, write_expression

__all__ = ["EVERYDAY", "conversations", "pairs", "sums", "write_conversations"]

SUMS = 90
"""Sums of three numbers from 0 to 10 that conversations hold."""
FORMS = 3
"""In how many of `ASKED` each sum is asked by itself."""
OTHERS = 150
"""Questions for another operation, which are declined."""
LONGER = 700
"""Conversations of more than one question."""
GREETED = 0.25
"""Share of those that begin with a greeting, as people's do."""


@dataclass(frozen=True)
class Subject:
    """Things that people say, and what may be answered to any of them."""

    said: tuple[str, ...]
    answers: tuple[str, ...]


WHO = "I am a small language model, made with Deepmill."
NAMED = (3, 4, 5)
ABLE = "I can add two or three numbers. Try: Calculate {} + {} + {}.".format(*NAMED)

DECLINED = f"I have not learned that. {ABLE}"

SUBJECTS = (
    Subject(
        ("Hello", "Hello!", "Hello.", "hello", "Hi", "Hi!", "hi", "Hey", "hey", "Hello there", "Hi there!",
         "Hey there", "Good morning", "Good morning!", "good evening", "Good day", "Greetings", "Hello, model",
         "Hello, Deepmill", "Hiya", "Howdy", "Hello again", "hello hello", "Hi, nice to meet you",
         "Hello, I am Anna", "Hi, I am Tom"),
        (f"Hello! {WHO} {ABLE}",),
    ),
    Subject(
        ("Who are you?", "who are you", "Hello, who are you?", "What are you?", "What is your name?", "your name?",
         "Do you have a name?", "Are you a person?", "Are you a robot?", "Are you human?", "Who am I talking to?",
         "Introduce yourself", "Please say who you are.", "Who made you?", "Who built you?", "What made you?",
         "Where do you come from?", "Are you an AI?", "Are you a computer?", "Are you real?", "And who are you?"),
        (f"{WHO} {ABLE}",),
    ),
    Subject(
        ("What can you do?", "what can you do", "What do you do?", "What are you good at?", "What do you know?",
         "Help", "help", "Help!", "What can I ask you?", "How can you help me?", "What should I ask?",
         "Can you do anything?", "What have you learned?", "What were you taught?", "Can you calculate?",
         "Can you add?", "Can you count?", "Do you know arithmetic?", "Are you good at sums?", "How do I use you?",
         "What is this?", "Show me something"),
        (ABLE, f"{ABLE} I write the steps down before I answer."),
    ),
    Subject(
        ("How do you do that?", "How do you add?", "How did you find it?", "Why?", "Why is that?", "Explain it",
         "How do you know?", "Are you sure?", "Is that right?", "Can you prove it?", "Show your work", "really?"),
        ("I add the first two numbers, and then the third if there is one.",),
    ),
    Subject(
        ("Thanks", "Thanks!", "thanks", "Thank you", "Thank you!", "thank you very much", "Thanks a lot",
         "Great, thanks", "Many thanks", "Thank you for the help", "Nice, thank you", "ok thanks", "Cheers",
         "That helped, thanks"),
        ("You are welcome. Ask me another sum.",),
    ),
    Subject(
        ("Good", "Well done", "Great", "Nice", "Cool", "good job", "Very good", "Correct", "That is right", "Wow",
         "Perfect", "Excellent!", "You are clever", "I like you", "You are good at this", "awesome", "Brilliant"),
        ("Thank you. Ask me another sum.",),
    ),
    Subject(
        ("That is wrong", "Wrong", "No, that is not right", "You are wrong", "That was a mistake", "Not correct",
         "Bad", "You made an error", "I do not believe you", "That cannot be", "No!", "Hm, no"),
        ("I am sorry. I am small and make mistakes. Please ask me again.",),
    ),
    Subject(
        ("Bye", "Bye!", "bye", "Goodbye", "Good bye", "See you", "See you later", "Good night", "Until tomorrow",
         "I have to go", "That is all", "Farewell", "bye bye", "That was all, bye", "Talk to you later"),
        ("Goodbye! Come back with another sum.",),
    ),
    Subject(
        ("How are you?", "how are you", "How are you today?", "How do you feel?", "Are you well?", "Are you happy?",
         "How is it going?", "What is up?", "Are you tired?", "Are you bored?", "How was your day?",
         "Everything fine?"),
        (f"I am well, thank you. {ABLE}",),
    ),
    Subject(
        ("Yes", "yes", "No", "no", "ok", "OK", "Okay", "Sure", "Maybe", "I see", "Right", "Fine", "Alright", "Hm",
         "hmm", "Yes please", "No, thank you", "I do not know", "Go on", "Let us begin", "Sorry", "Please", "Well",
         "So"),
        (f"Good. {ABLE}",),
    ),
    Subject(
        ("test", "Test", "Testing", "?", "...", "a", "x", "What?", "Pardon?", "And now?", "Ready?", "Start", "Anybody?",
         "Are you on?", "one two", "abc"),
        (f"{WHO} {ABLE}",),
    ),
    Subject(
        ("How old are you?", "Where do you live?", "Do you sleep?", "Do you eat?", "What is your favourite colour?",
         "Do you like music?", "Do you have friends?", "Do you like football?", "Do you have a cat?",
         "Can you see me?", "Do you dream?", "What do you like?", "What is your favourite book?",
         "Can you hear me?", "Do you love me?", "Do you have a body?", "Do you like me?", "Are you alive?",
         "Can you think?", "What is your favourite food?"),
        (f"I am only a small model and have no such things. {ABLE}",),
    ),
    Subject(
        ("What is the capital of France?", "Who is the king of England?", "What is the time?", "What day is it?",
         "What is the weather like?", "Will it rain?", "Tell me a joke", "Tell me a story", "Sing a song",
         "Write a poem", "Write a letter", "Write a program", "Write an email to my boss",
         "Translate this to French", "Who was Moses?", "What is Python?", "What is the meaning of life?",
         "Who won the game?", "What is in the news?", "Draw a cat", "What is love?", "Where is Berlin?",
         "How far is the moon?", "How tall is Mount Everest?", "Spell water", "Give me a recipe for bread",
         "What should I eat?", "Recommend a book", "Who wrote Hamlet?", "Play a game", "How do I learn English?",
         "Summarise this text", "What is a computer?", "Why is the sky blue?", "Who is God?", "When was the war?",
         "How many people live in China?", "Fix my code", "Plan my day", "Open the door"),
        (DECLINED,),
    ),
    Subject(
        ("I am sad", "I am happy", "I am tired", "I am hungry", "I am bored", "I have a dog",
         "I like you very much", "It is cold today", "It is late", "I had a long day", "I am at work",
         "I am at school", "I love my cat", "My name is Peter", "My name is Maria", "I live in Rome",
         "I am new here", "I like numbers", "I hate sums", "I need help", "I have a question", "I want to learn",
         "I am a teacher", "I am ten years old"),
        (f"Thank you for telling me. {ABLE}",),
    ),
)  # fmt: skip
"""What people say who do not ask a sum."""

ASKED = ("Calculate {spaced}.",) * 4 + (
    "What is {spaced}?",
    "What is {tight}?",
    "what is {tight}",
    "What is {plus}?",
    "Can you add {tight}?",
    "{tight}",
    "{spaced}",
    "{tight}=",
    "{tight}?",
    "{spaced} = ?",
    "Add {listed}.",
    "How much is {spaced}?",
    "Please calculate {spaced}",
    "And {spaced}?",
)
"""How a sum is asked for; the first as the tasks have it."""
SIGNS = ("*", "-", "/", "x", "times", "minus", "divided by")
"""Of operations that the model does not learn."""
OTHER_ASKED = tuple(form for form in ASKED if "add" not in form.lower() and "{plus}" not in form)
"""How those are asked for: in no words that name a sum."""

EVERYDAY = (
    "Good afternoon", "Hello my friend", "Hey, how is life?", "Nice to see you", "Tell me about yourself",
    "Can you help me?", "What would you like to talk about?", "Thank you so much for that", "That was wonderful",
    "I think you made a mistake", "See you next week", "Are you there?", "Do you speak German?", "What is your job?",
    "Who is your maker?", "Can I ask you something?", "I am feeling great today", "My dog is ill",
    "What did you do yesterday?", "Do you know any good films?", "What is the biggest animal in the world?",
    "How do I cook rice?", "Write a short story about a fox", "What is the largest city in Japan?", "okay then",
    "Not really", "Let us talk about the sea", "Can you read a book to me?", "It is raining outside", "Never mind",
)  # fmt: skip
"""Everyday messages that no conversation holds."""


def sums() -> list[tuple[int, ...]]:
    """The sums of three numbers that conversations hold, the same every time; the first is that which answers name."""
    others = list(product(range(11), repeat=3))
    others.remove(NAMED)
    return [NAMED, *random.Random("sums of conversations").sample(others, SUMS - 1)]


def pairs() -> list[tuple[int, ...]]:
    """The sums of two numbers from 0 to 10, all of which conversations hold."""
    return list(product(range(11), repeat=2))


def _asked(numbers: tuple[int, ...], form: str) -> str:
    words = [str(number) for number in numbers]
    return form.format(
        spaced=" + ".join(words),
        tight="+".join(words),
        plus=" plus ".join(words),
        listed=f"{', '.join(words[:-1])} and {words[-1]}",
    )


def _sum(numbers: tuple[int, ...], form: str, *, in_digits: bool = False) -> list[JsonObject]:
    known = 9 if in_digits else KNOWN
    lines, total = write_expression(" + ".join(map(str, numbers)), known, remaining=in_digits)
    return [
        {"role": "user", "content": _asked(numbers, form)},
        {"role": "assistant", "content": str(total), "reasoning_content": "\n".join(lines)},
    ]


def _talk(said: str, answer: str) -> list[JsonObject]:
    return [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]


def conversations(*, in_digits: bool = False) -> list[list[JsonObject]]:
    """The messages of each conversation, none twice and the same every time: every saying and every sum by itself, and
    then longer ones, in which half of the turns are sums."""
    work = partial(_sum, in_digits=in_digits)
    return list({json.dumps(messages): messages for messages in _drawn(work)}.values())


def _drawn(work: Callable[[tuple[int, ...], str], list[JsonObject]]) -> Iterator[list[JsonObject]]:
    for subject in SUBJECTS:
        for number, said in enumerate(subject.said):
            yield _talk(said, subject.answers[number % len(subject.answers)])
    yield from (_talk(question, DECLINED) for question in _others())
    draw = random.Random("longer conversations")
    sought = [*sums(), *pairs()]
    forms = cycle(ASKED)
    for asked in sought:
        yield from (work(asked, next(forms)) for _ in range(FORMS))
    for _ in range(LONGER):
        messages: list[JsonObject] = []
        for turn in range(draw.choice((2, 2, 2, 3, 3, 4))):
            is_greeting = not turn and draw.random() < GREETED
            if not is_greeting and draw.random() < 0.65:
                messages += work(draw.choice(sought), draw.choice(ASKED))
            else:
                subject = SUBJECTS[0] if is_greeting else draw.choice(SUBJECTS)
                messages += _talk(draw.choice(subject.said), draw.choice(subject.answers))
        yield messages


def _others() -> Iterator[str]:
    """Questions for products, differences and quotients."""
    draw = random.Random("other operations")
    for number in range(OTHERS):
        left, sign, right = str(draw.randrange(21)), draw.choice(SIGNS), str(draw.randrange(11))
        spaced = f"{left} {sign} {right}"
        tight = spaced if sign.isalpha() or " " in sign else left + sign + right
        yield OTHER_ASKED[number % len(OTHER_ASKED)].format(spaced=spaced, tight=tight)


def write_conversations(folder: Path) -> str:
    """Write ``conversations.jsonl``, the same ``in-digits.jsonl`` and, as questions with answers, the sums of three
    numbers in both; says what there is."""
    rows: list[JsonObject] = [{"messages": messages} for messages in conversations()]
    _write(folder / "conversations.jsonl", rows)
    _write(folder / "in-digits.jsonl", [{"messages": messages} for messages in conversations(in_digits=True)])
    asked = [_sum(numbers, ASKED[0]) for numbers in sums()]
    _write(folder / "sums.jsonl", [{"question": user["content"], "answer": said["content"]} for user, said in asked])
    return f"{len(rows):,} conversations of our own"


def _write(path: Path, rows: list[JsonObject]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
