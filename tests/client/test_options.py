"""Options that are none are refused by name, before anything starts."""

from __future__ import annotations

import pytest

import redismr


@pytest.mark.parametrize("inline", [True, False])
def test_an_unknown_option_is_named_with_the_nearest(inline):
    with pytest.raises(redismr.ConfigError, match="retires; did you mean retries"):
        redismr.run([1], lambda x: [(x, 1)], "sum", retires=2, inline=inline)


@pytest.mark.parametrize(
    ("option", "value"),
    [("retries", -1), ("partitions", 0), ("lease", 0), ("chunk", 0), ("ttl", 0.1)],
)
def test_a_value_out_of_range_is_named(option, value):
    with pytest.raises(redismr.ConfigError, match=option):
        redismr.run([1], lambda x: [(x, 1)], "sum", **{option: value}, inline=True)
