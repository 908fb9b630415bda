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
    for much, name in ((1e12, "TB"), (1e9, "GB")):
        if count >= much:
            return f"{count / much:.1f} {name}"
    return f"{count / 1e6:.1f} MB"


def amount(done: int, total: int | None, unit: str) -> str:
    """How much of how much, of items, tasks or bytes.

    >>> amount(1234, 10_000, "items"), amount(0, 1, "tasks"), amount(3, None, "items")
    ('1,234/10,000 items', '0/1 task', '3/? items')
    >>> amount(12_340_000, 412_300_000, "bytes"), amount(900_000_000, 1_100_000_000, "bytes")
    ('12.3/412.3 MB', '900.0 MB/1.1 GB')
    """
    if unit != "bytes":
        whole = "?" if total is None else f"{total:,}"
        return f"{done:,}/{whole} {unit[:-1] if total == 1 else unit}"
    part, whole = size(done), "?" if total is None else size(total)
    return f"{part.removesuffix(whole[-3:])}/{whole}"


def share(done: int, total: int) -> str:
    """How much of how much, short; all of it only when nothing is left.

    >>> share(1, 3), share(999, 1000), share(3, 3)
    ('33%', '99%', '100%')
    """
    return f"{100 * done // total}%"


def rate(per_second: float, unit: str) -> str:
    """How much gets done, by the minute when it is slow.

    >>> rate(214.4, "items"), rate(2.13, "items"), rate(0.05, "tasks"), rate(12_300_000, "bytes")
    ('214 items/s', '2.1 items/s', '3.0 tasks/min', '12.3 MB/s')
    >>> rate(12_300, "bytes")
    '12.3 kB/s'
    """
    if unit == "bytes":
        slow = per_second < 100_000
        return f"{per_second / 1e3:.1f} kB/s" if slow else f"{size(per_second)}/s"
    for limit, words in ((10, "{:,.0f} {}/s"), (0.5, "{:.1f} {}/s")):
        if per_second >= limit:
            return words.format(per_second, unit)
    return f"{per_second * 60:.1f} {unit}/min"
