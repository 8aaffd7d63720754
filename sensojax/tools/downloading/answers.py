"""What the answer of a web server says of itself: lengths, ranges, times, links.

In go answers (or errors, which are answers too) as urllib gives them; out come numbers and names,
None where nothing usable is said.
"""

import email.utils
import re
import time
import urllib.parse


def length(answer) -> int | None:
    """Bytes of the body that follows."""
    stated = answer.headers.get("Content-Length", "")
    chunked = answer.headers.get("Transfer-Encoding")
    return int(stated) if stated.isdecimal() and not chunked else None


def byte_range(answer) -> tuple[int | None, int | None]:
    """First byte of a part, and length of the whole file (RFC 9110, 14.4)."""
    stated = answer.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", stated.strip())
    first, total = found.groups() if found else (None, None)
    return first and int(first), total and int(total)


def retry_after(answer) -> float:
    """Seconds that the server wants us to wait, which it says as a number or as a date."""
    stated = answer.headers.get("Retry-After", "")
    if stated.isdecimal():
        return float(stated)
    try:
        return email.utils.parsedate_to_datetime(stated).timestamp() - time.time()
    except ValueError:
        return 0.0


def listed(page: str) -> list[str]:
    """The files that a plain web server lists on the page of a folder."""
    links = re.findall(r'href="([^"?#/]+)"', page, flags=re.IGNORECASE)
    return [urllib.parse.unquote(link) for link in links]
