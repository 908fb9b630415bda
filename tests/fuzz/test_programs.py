"""Random programs agree with a plain loop, on workers and inline."""

from __future__ import annotations

import pytest
from chaos.test_cut import run

from fuzz.oracle import is_same
from fuzz.palette import NAN


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_programs_agree_with_a_plain_loop() -> None:
    done = run("programs")
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1, True, False),
        (0.0, -0.0, False),
        (NAN, float("nan"), True),
        ([1, (2.0,)], [1, (2.0,)], True),
        ([1, (2.0,)], [1, (2,)], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({1, 2}, {2, 1}, True),
        ({1}, {1.0}, False),
    ],
)
def test_the_comparison_sees_types_and_orders(one, other, alike) -> None:
    assert is_same(one, other) is alike
