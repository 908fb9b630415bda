"""Slots: the holding of an executor survives its death at any write."""

from __future__ import annotations

import pytest

from redismr.workers.shared_slots import Holding, Slots


class Killed(Exception):
    """Raised where the executor is killed, in the middle of a write."""


class KilledWriter:
    """The numbers of a slot whose writer is killed at the nth write."""

    def __init__(self, real, writes):
        self.real, self.left = real, writes

    def __getitem__(self, at):
        return self.real[at]

    def __setitem__(self, at, value):
        if self.left == 0:
            raise Killed
        self.left -= 1
        self.real[at] = value


BEFORE = Holding("job", "nonce1", "nonce2", ("m1", "m2"), 500, 900)
AFTER = Holding("job", "nonce2", "", ("m3", "m4", "m5"), 500, 900)


@pytest.fixture
def slot():
    return Slots(2).all[1]


def run_killed_after(slot, writes, do):
    """Call ``do`` and be killed after so many writes; return True if it was finished."""
    real, slot._numbers = slot._numbers, KilledWriter(slot._numbers, writes)
    try:
        do()
    except Killed:
        return False
    else:
        return True
    finally:
        slot._numbers = real


def test_the_holding_can_be_read(slot):
    slot.set_holding(BEFORE)
    slot.set_running(1)
    slot.cursor[0] = 7
    assert slot.read() == Holding("job", "nonce1", "nonce2", ("m1", "m2"), 500, 900, 1, 7)


def test_a_death_at_any_write_leaves_the_old_or_the_new_holding(slot):
    finished, writes, seen = False, 0, set()
    while not finished:
        slot.reset()
        slot.set_holding(BEFORE)
        slot.set_running(1)
        finished = run_killed_after(slot, writes, lambda: slot.set_holding(AFTER))
        found = slot.read()
        assert found in (BEFORE, AFTER, Holding(*fields_of(BEFORE), running=1)), writes
        seen.add(found.nonce)
        writes += 1
    assert seen == {"nonce1", "nonce2"}


def test_a_slot_is_readable_again_after_any_death_in_it(slot):
    finished, writes = False, 0
    while not finished:
        finished = run_killed_after(slot, writes, lambda: slot.set_holding(AFTER))
        slot.reset()
        assert slot.read() == Holding()
        slot.set_holding(BEFORE)
        assert slot.read() == BEFORE
        writes += 1


def test_a_slot_holds_a_whole_batch_of_the_longest_names():
    tasks = tuple(f"m{999_999_900 + i}" for i in range(64))
    first, second = Slots(2).all
    for slot in (first, second):
        slot.set_holding(Holding("j" * 64, "n" * 11, "n" * 11, tasks, 3_600_000, 86_400_000))
    assert first.read().tasks == second.read().tasks == tasks


def test_tasks_are_counted_across_deaths(slot):
    slot.count_task()
    slot.reset()
    assert slot.tasks_counted == 1


def fields_of(h):
    return h.job, h.nonce, h.next_nonce, h.tasks, h.lease_ms, h.timeout_ms
