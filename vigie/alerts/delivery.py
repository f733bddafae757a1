"""Deliver a message by a channel, or say why that failed.

References
----------
Standard Webhooks 1.0.0: the headers of a signed message, and what is signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import smtplib
import ssl
import time
from email.message import EmailMessage
from email.utils import formatdate

from pydantic import SecretStr

from vigie.alarm_rules import BASE64_SECRET, Apprise, Channel, Mail, Webhook
from vigie.alerts.message import Message
from vigie.errors import AlertError

MEDIA_TYPE = "application/cloudevents+json; charset=utf-8"
ANSWER_SHOWN = 200
"""Characters of a receiver's answer that an error quotes."""


def deliver(channel: Channel, message: Message) -> None:
    """Deliver a message.

    Raises
    ------
    AlertError
        If the receiver has not taken it, or that is not known.
    """
    if isinstance(channel, Webhook):
        _post(channel, message)
    elif isinstance(channel, Mail):
        _mail(channel, message)
    else:
        _by_apprise(channel, message)


def signed(secret: str, number: str, at: int, body: bytes) -> str:
    """Return the signature of a message: HMAC-SHA256 of its id, its time and its body.

    Parameters
    ----------
    secret : str
        Any text; after ``whsec_`` it is base64.
    number : str
        The id of the message.
    at : int
        When it was sent, in seconds since 1970.
    body : bytes
        What was sent.
    """
    key = secret.encode()
    if secret.startswith(BASE64_SECRET):
        key = base64.b64decode(secret.removeprefix(BASE64_SECRET))
    content = f"{number}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def _post(channel: Webhook, message: Message) -> None:
    # Imported here, as all that only a sender needs.
    import httpx

    body, at = json.dumps(message.event).encode(), int(time.time())
    headers = {
        "Content-Type": MEDIA_TYPE,
        "webhook-id": message.id,
        "webhook-timestamp": str(at),
    }
    if channel.secret is not None:
        secret = channel.secret.get_secret_value()
        headers["webhook-signature"] = signed(secret, message.id, at, body)
    try:
        answer = httpx.post(channel.url, content=body, headers=headers, timeout=channel.timeout_s)
    except httpx.HTTPError as error:
        raise AlertError(f"The receiver does not answer: {_kind(error)}.") from error
    if not answer.is_success:
        failure = AlertError(
            f"The receiver answers {answer.status_code}: {answer.text[:ANSWER_SHOWN]!r}."
        )
        after = answer.headers.get("retry-after", "")
        failure.retry_after_s = float(after) if after.isdecimal() else None
        failure.is_final = answer.status_code == httpx.codes.GONE
        raise failure


def _mail(channel: Mail, message: Message) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"] = message.subject, channel.from_
    mail["To"] = ", ".join(channel.to)
    mail["Date"] = formatdate(localtime=False)
    # The same in each attempt, so that a mailbox that drops doubles keeps one.
    mail["Message-ID"] = f"<{message.id}@{channel.from_.rpartition('@')[2]}>"
    mail["X-Vigie-Id"], mail["Auto-Submitted"] = message.id, "auto-generated"
    mail.set_content(message.text)
    context = ssl.create_default_context()
    try:
        server: smtplib.SMTP
        if channel.security == "tls":
            server = smtplib.SMTP_SSL(
                channel.host, channel.port, timeout=channel.timeout_s, context=context
            )
        else:
            server = smtplib.SMTP(channel.host, channel.port, timeout=channel.timeout_s)
        with server:
            if channel.security == "starttls":
                server.starttls(context=context)
            if channel.username is not None:
                server.login(channel.username, _revealed(channel.password))
            refused = server.send_message(mail)
    except (smtplib.SMTPException, OSError) as error:
        raise AlertError(f"The mail server does not take it: {_kind(error)}.") from error
    if refused:
        raise AlertError(f"The mail server refuses {', '.join(refused)}.")


def _by_apprise(channel: Apprise, message: Message) -> None:
    try:
        import apprise
    except ImportError as error:
        raise AlertError(
            "Apprise is not installed.", remedy="Install it: pip install 'vigie[alerts]'."
        ) from error
    sender = apprise.Apprise()
    for url in channel.urls:
        if not sender.add(url.get_secret_value()):
            raise AlertError("An address of the channel is none that Apprise knows.")
    if not sender.notify(title=message.subject, body=message.text):
        raise AlertError("A receiver of the channel does not take it; the log may say why.")


def _revealed(secret: SecretStr | None) -> str:
    return "" if secret is None else secret.get_secret_value()


def _kind(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
