"""Make records to sort and tables to join, from a known seed."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from benchmarks.cache import make_once, scaled

TABLE_FILES = 16
RECORDS = 3_000_000
RECORD_BYTES = 100
ORDERS = 2_000_000
CUSTOMERS = 100_000
HOT_CUSTOMER_SHARE = 0.3


def records() -> list[str]:
    """Return files of lines of 100 bytes: ten random hex digits, a number, noise, and dots."""
    return _sorted_paths(make_once("records", _make_records))


def orders(*, skewed: bool) -> list[str]:
    """Return a file of customers and files of orders; if ``skewed``, one customer has 30 %."""
    return _sorted_paths(make_once("skewed" if skewed else "even", partial(_make_orders, skewed)))


def _sorted_paths(folder: Path) -> list[str]:
    return sorted(map(str, folder.iterdir()))


def _make_records(folder: Path) -> None:
    random_numbers = random.Random(0)
    noise = random_numbers.randbytes(RECORD_BYTES * 50).hex()
    records_per_file = scaled(RECORDS // TABLE_FILES)
    for number in range(TABLE_FILES):
        keys = random_numbers.randbytes(5 * records_per_file).hex()
        with (folder / f"{number:02}").open("w", encoding="ascii") as out:
            for record in range(records_per_file):
                start = (number * records_per_file + record) * 7919 % (len(noise) - 100)
                out.write(
                    f"{keys[10 * record : 10 * record + 10]} {number:02}{record:08}"
                    f"{noise[start : start + 39]}{'.' * 39}\n"
                )


def _make_orders(skewed: bool, folder: Path) -> None:  # noqa: FBT001  for partial
    random_numbers = random.Random(1)
    customers, orders_per_file = scaled(CUSTOMERS), scaled(ORDERS // TABLE_FILES)
    with (folder / "00-customers").open("w", encoding="ascii") as out:
        out.writelines(f"c{number},customer number {number}\n" for number in range(customers))
    for number in range(TABLE_FILES):
        with (folder / f"{number + 1:02}-orders").open("w", encoding="ascii") as out:
            for order in range(number * orders_per_file, (number + 1) * orders_per_file):
                is_hot = skewed and random_numbers.random() < HOT_CUSTOMER_SHARE
                customer = 0 if is_hot else random_numbers.randrange(customers)
                out.write(f"c{customer},{order},{random_numbers.randrange(100_000) / 100:.2f}\n")
