"""What must not be seen: passwords in tracking addresses, and addresses of notifications. They are known here alone."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit

from engram.sweeps.study.configuration import Study

SHOWN = "***"
PASSWORDS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
ADDRESSES = "ENGRAM_NOTIFY"
IN_ADDRESS = re.compile(r"(?<=://)[^/\s@'\"]+@")  # user and password, in any address


class Secrets:
    """The secrets of studies, and texts without them."""

    def __init__(self, *studies: Study):
        secrets = [os.environ.get(name, "") for name in PASSWORDS]
        for word in os.environ.get(ADDRESSES, "").split():  # with a tag, or without
            secrets += [word, word[word.find("=", 0, word.find("://")) + 1 :]]
        for study in studies:
            password = urlsplit(study.tracking.uri or "").password
            if password:
                secrets += [password, unquote(password)]
        # Short ones would blot out half of every text; in an address they are hidden all the same.
        self._secrets = sorted({s for s in secrets if len(s) >= 4}, key=len, reverse=True)

    def hidden(self, text: str) -> str:
        """The text as it may be shown, stored and sent: without them."""
        for secret in self._secrets:
            text = text.replace(secret, SHOWN)
        return IN_ADDRESS.sub(f"{SHOWN}@", text)
