"""Numbers as people read them."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """A length of time as a clock shows it.

    >>> clock(7), clock(75.9), clock(3723)
    ('0:07', '1:15', '1:02:03')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def span(seconds: float) -> str:
    """A rough length of time, in one unit.

    >>> span(0.42), span(59), span(7200), span(200000)
    ('0.4s', '59s', '2h', '56h')
    """
    for limit, unit, words in (
        (10, 1, "{:.1f}s"),
        (100, 1, "{:.0f}s"),
        (6000, 60, "{:.0f}m"),
        (360_000, 3600, "{:.0f}h"),
    ):
        if seconds < limit:
            return words.format(seconds / unit)
    return f"{seconds / 86400:.0f}d"


def size(count: float) -> str:
    """Bytes in decimal units, MB at least.

    >>> size(0), size(412_300_000), size(1_100_000_000_000)
    ('0.0 MB', '412.3 MB', '1.1 TB')
    """
    for unit, name in ((1e12, "TB"), (1e9, "GB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count / 1e6:.1f} MB"


def per_second(rate: float) -> str:
    """A rate, by the minute when it is slow.

    >>> per_second(214.4), per_second(2.13), per_second(0.05)
    ('214/s', '2.1/s', '3.0/min')
    """
    for limit, words in ((10, "{:,.0f}/s"), (0.5, "{:.1f}/s")):
        if rate >= limit:
            return words.format(rate)
    return f"{rate * 60:.1f}/min"


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "worker"), plural(84120, "record")
    ('1 worker', '84,120 records')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
