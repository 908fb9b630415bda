"""Format durations, amounts, rates and percentages for people."""


def format_clock(seconds: float) -> str:
    """Format a duration as a clock shows it.

    >>> format_clock(7), format_clock(75.9), format_clock(3723)
    ('0:07', '1:15', '1:02:03')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def format_duration(seconds: float) -> str:
    """Format a duration roughly, in one unit.

    >>> format_duration(0.42), format_duration(59), format_duration(7200), format_duration(200000)
    ('0.4s', '59s', '2h', '56h')
    """
    for limit, unit_seconds, template in (
        (10, 1, "{:.1f}s"),
        (100, 1, "{:.0f}s"),
        (6000, 60, "{:.0f}m"),
        (360_000, 3600, "{:.0f}h"),
    ):
        if seconds < limit:
            return template.format(seconds / unit_seconds)
    return f"{seconds / 86400:.0f}d"


def format_bytes(count: float) -> str:
    """Format a number of bytes in decimal units, the smallest being MB.

    >>> format_bytes(0), format_bytes(412_300_000), format_bytes(1_100_000_000_000)
    ('0.0 MB', '412.3 MB', '1.1 TB')
    """
    for unit_bytes, name in ((1e12, "TB"), (1e9, "GB")):
        if count >= unit_bytes:
            return f"{count / unit_bytes:.1f} {name}"
    return f"{count / 1e6:.1f} MB"


def format_amount(done: int, total: int | None, unit: str) -> str:
    """Format the done part of a total, in items, tasks or bytes; a total of None shows as ``?``.

    >>> format_amount(1234, 10_000, "items"), format_amount(0, 1, "tasks")
    ('1,234/10,000 items', '0/1 task')
    >>> format_amount(3, None, "items"), format_amount(12_340_000, 412_300_000, "bytes")
    ('3/? items', '12.3/412.3 MB')
    >>> format_amount(900_000_000, 1_100_000_000, "bytes")
    '900.0 MB/1.1 GB'
    """
    if unit != "bytes":
        whole = "?" if total is None else f"{total:,}"
        return f"{done:,}/{whole} {unit[:-1] if total == 1 else unit}"
    part, whole = format_bytes(done), "?" if total is None else format_bytes(total)
    return f"{part.removesuffix(whole[-3:])}/{whole}"


def format_rate(per_second: float, unit: str) -> str:
    """Format a rate; a slow one is shown per minute.

    >>> format_rate(214.4, "items"), format_rate(2.13, "items"), format_rate(0.05, "tasks")
    ('214 items/s', '2.1 items/s', '3.0 tasks/min')
    >>> format_rate(12_300_000, "bytes"), format_rate(12_300, "bytes")
    ('12.3 MB/s', '12.3 kB/s')
    """
    if unit == "bytes":
        slow = per_second < 100_000
        return f"{per_second / 1e3:.1f} kB/s" if slow else f"{format_bytes(per_second)}/s"
    for limit, template in ((10, "{:,.0f} {}/s"), (0.5, "{:.1f} {}/s")):
        if per_second >= limit:
            return template.format(per_second, unit)
    return f"{per_second * 60:.1f} {unit}/min"
