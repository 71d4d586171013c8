"""The login of the servers of a store: a user and a password, and what is derived from them for browsers.

Where nobody set one, it is made and kept in the file `login` of the servers' folder, mode 0600. A link with a token
logs a browser in; the browser then shows a session, which ends after `SESSION_SECONDS` or with the password. Neither
token nor session tells the password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path

from infra.errors import UserError
from infra.private_files import read_private, write_private

__all__ = ["Credential", "make_login", "read_login"]

LOGIN_FILE = "login"
USER = "deepmill"
SESSION_SECONDS = 30 * 24 * 3600
"""A session ends; the link makes the next one."""


@dataclass(frozen=True)
class Credential:
    """Who may talk to the servers."""

    user: str
    password: str = field(repr=False)

    @property
    def text(self) -> str:
        """``user:password``, as Prefect wants it."""
        return f"{self.user}:{self.password}"

    @property
    def basic(self) -> str:
        """The value of the header `Authorization`."""
        return f"Basic {base64.b64encode(self.text.encode()).decode()}"

    def matches(self, authorization: str) -> bool:
        """Whether the value of an `Authorization` header is this login."""
        scheme, _, given = authorization.partition(" ")
        try:
            decoded = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(decoded, self.text.encode())

    @property
    def token(self) -> str:
        """What a link bears to log a browser in."""
        return self._sign("link")

    def is_token(self, given: str) -> bool:
        """Whether `given` is the token of a link."""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def link(self, address: str) -> str:
        """`address` (without a query) as a link that logs a browser in."""
        return f"{address.rstrip('/')}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """Name of the cookie that holds a session; one for each login, for cookies of a host know no ports."""
        return f"deepmill-{self._sign('cookie')[:8]}"

    def session(self) -> str:
        """A fresh session: when it ends, and a signature."""
        ends = str(int(time.time()) + SESSION_SECONDS)
        return f"{ends}.{self._sign(f'session {ends}')}"

    def is_session(self, given: str) -> bool:
        """Whether `given` is a session that has not ended."""
        ends, _, signature = given.partition(".")
        signed = hmac.compare_digest(signature.encode(), self._sign(f"session {ends}").encode())
        return signed and ends.isdecimal() and int(ends) > time.time()

    def _sign(self, what: str) -> str:
        return hmac.new(self.text.encode(), f"deepmill {what}".encode(), hashlib.sha256).hexdigest()


def make_login(folder: Path) -> Credential:
    """The login of `folder`, made where there is none; one that others could have read is made anew."""
    try:
        found = read_login(folder)
    except UserError:
        found = None
    if found is None:
        found = Credential(USER, secrets.token_urlsafe(32))
        write_private(folder / LOGIN_FILE, found.text + "\n")
    return found


def read_login(folder: Path) -> Credential | None:
    """The login that `make_login` left in `folder`; None where it did not.

    Raises:
        UserError: others may read the file, or it is damaged.
    """
    path = folder / LOGIN_FILE
    text = read_private(path)
    if text is None:
        return None
    user, colon, password = text.strip().partition(":")
    if not (user and colon and password):
        raise UserError(f"{path}: not a login; remove it, and deepmill down and up make a new one")
    return Credential(user, password)
