"""Words that deny, doubt, compare or change a value: a sentence that has them does not plainly state it."""

from __future__ import annotations

import re

from pipeline.reasoning.answers.splitting import word_set

__all__ = ["DENIAL", "DOUBTFUL", "RETRACTION"]

DENIAL = re.compile(
    r"\b(?:not|no|never|wrong|incorrect|false|cannot|\w+n't|if|unless|doubt|maybe|perhaps|possibly|impossible|suppose|"
    r"assume|pretend)\b|\\neq?\b|≠",
    re.IGNORECASE,
)
"""Words that take back what stands in the same sentence."""
RETRACTION = re.compile(
    r"(?:^|[.!?:;,\n])\W*(?:but |no,? )?(?:wait|hold on|actually|hmm+|oops|sorry|edit|correction"
    r"|alternatively|instead|but then)\b"
    r"|\b(?:i made an? (?:mistake|error)|my mistake|mistaken|re-?(?:check|do|think)|reconsider|second thoughts?|i meant"
    r"|(?:just|only|this is|it is|was) an? (?:wild |educated )?guess|guessing|correct answer)\b",
    re.IGNORECASE,
)
"""With what somebody goes back on a value after giving it."""
DOUBTFUL = word_set(
    "not no never neither nor or and either maybe perhaps possibly probably likely might could may if unless "
    "whether about approximately around roughly nearly almost over under more less fewer greater smaller least "
    "most than between within from off away except but far close wrong incorrect false doubt guess think thought "
    "believe hope hopefully presumably seems suppose assume half twice double triple thrice quarter third dozen "
    "hundred thousand million billion "
    "squared cubed square root times plus minus negative reciprocal inverse opposite cannot can't cant isn't isnt "
    "aren't impossible without instead rather other another before after above below exceeds rejected reject "
    "unlike said says claims claimed mistake mistaken error zero one two three four five six seven eight nine ten "
    "eleven twelve anything everything nothing something hardly barely short extra additional first second power "
    "factorial modulo divided multiplied multiple every increased decreased up down to"
)
"""Words beside which a number is not, or not surely, the value of a sentence."""
