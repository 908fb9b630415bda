"""Join customers with their orders: two tables with a common column, which is the key.

``redismr run examples/join.py`` or ``python examples/join.py``
"""

from pathlib import Path

import redismr

source = redismr.csv(str(Path(__file__).parent / "data" / "*.csv"))


def mapfn(where, row):
    if "name" in row:
        yield row["customer"], ("name", row["name"])
    else:
        yield row["customer"], ("amount", float(row["amount"]))


def reducefn(customer, records):
    names = [value for kind, value in records if kind == "name"]
    amounts = [value for kind, value in records if kind == "amount"]
    if not names:
        redismr.count("orders of unknown customers", len(amounts))
    return names[0] if names else "?", len(amounts), sum(amounts)


if __name__ == "__main__":
    orders = redismr.run(source, mapfn, reducefn)
    for customer, (name, number, total) in orders.sorted():
        print(f"{customer:>4} {name:12} {number} orders {total:8.2f}")
    print(dict(orders.counters))
