"""Tells people what they should not have to look for: a failed run, a stuck stage, a promoted model.

By webhook (a JSON POST) and by mail, whichever the settings name. A channel that does not answer costs the run nothing:
one line says so.
"""

from __future__ import annotations

import json
import smtplib
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

from flows.run.server_settings import ServerSettings

__all__ = ["Topic", "notify"]

TIMEOUT_SECONDS = 10.0


class Topic(StrEnum):
    """What a notification is about."""

    FAILED = "failed"
    STUCK = "stuck"
    PROMOTED = "promoted"


def notify(topic: Topic, text: str, facts: Mapping[str, Any], tell: Callable[[str], None] = lambda line: None) -> int:
    """Send `text` (one line) and `facts` to every channel of the settings; how many took it.

    The JSON that a webhook gets: ``{"topic", "text", "host", ...facts}``; chat services read its ``text``.
    """
    settings = ServerSettings()
    taken = 0
    webhook = settings.notify_webhook.get_secret_value()
    if webhook:
        taken += _attempt("webhook", tell, lambda: _post(webhook, topic, text, facts))
    if settings.notify_email:
        smtp = settings.smtp.get_secret_value() or "smtp://127.0.0.1:25"
        taken += _attempt("mail", tell, lambda: _mail(smtp, settings.notify_email, topic, text, facts))
    return taken


def _attempt(channel: str, tell: Callable[[str], None], send: Callable[[], None]) -> bool:
    try:
        send()
    except (OSError, smtplib.SMTPException, ValueError, urllib.error.URLError) as error:
        # the error's own text may hold the address, and the address a secret
        tell(f"the {channel} of the notifications does not take them ({type(error).__name__})")
        return False
    return True


def _post(address: str, topic: Topic, text: str, facts: Mapping[str, Any]) -> None:
    body = json.dumps({"topic": topic, "text": text, "host": socket.gethostname(), **facts}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
        pass


def _mail(server: str, to: str, topic: Topic, text: str, facts: Mapping[str, Any]) -> None:
    parts = urlsplit(server)
    message = EmailMessage()
    message["Subject"] = f"deepmill {topic}: {text}"[:200].replace("\n", " ")
    message["From"] = f"deepmill@{socket.gethostname()}"
    message["To"] = to
    message.set_content("\n".join([text, "", *(f"{name}: {value}" for name, value in facts.items())]))
    secure = parts.scheme == "smtps"
    kind = smtplib.SMTP_SSL if secure else smtplib.SMTP
    with kind(parts.hostname or "127.0.0.1", parts.port or (465 if secure else 25), timeout=TIMEOUT_SECONDS) as client:
        if parts.username:
            if not secure:
                client.starttls()
            client.login(unquote(parts.username), unquote(parts.password or ""))
        client.send_message(message)
