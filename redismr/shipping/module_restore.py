"""Sets a program's changes to a local module again, where the module was loaded anew."""

from collections import Counter, OrderedDict, defaultdict, deque
from types import ModuleType
from typing import Any

from redismr.module_snapshots import REGISTER_INFIX, Changes

_REFILLABLE_TYPES = (dict, defaultdict, OrderedDict, Counter, list, set, deque)


def restore_changes(module: ModuleType, changes: Changes) -> None:
    """Set and delete the names that the program had set and deleted.

    An object that the program had changed in place is changed in place here too: other modules may
    have imported it.

    Raises:
        AttributeError: the module here lacks the class or function that a dotted name begins with.
    """
    for path, value in changes.values.items():
        owner_path, registers, _ = path.partition(REGISTER_INFIX)
        if registers:
            owner, name = _resolve_owner(module, owner_path)
            getattr(owner, name).register(*value)
            continue
        owner, name = _resolve_owner(module, path)
        if path in changes.changed_in_place and _refill(vars(owner).get(name), value):
            continue
        if isinstance(owner, type):
            type.__setattr__(owner, name, value)  # setattr would ask a metaclass, which may refuse
        else:
            setattr(owner, name, value)
    for path in changes.deleted:
        owner, name = _resolve_owner(module, path)
        if name in vars(owner):
            delattr(owner, name)


def _resolve_owner(module: ModuleType, path: str) -> tuple[Any, str]:
    *outer, name = path.split(".")
    owner: Any = module
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def _refill(old: Any, new: Any) -> bool:
    """Give the old object the contents of the new one; False if that is not possible."""
    old_type = type(old)
    if old_type is not type(new):
        return False
    if old_type is bytearray:
        old[:] = new  # clear() would change the size, which a memoryview forbids
        return True
    if old_type in _REFILLABLE_TYPES:
        old.clear()
        if isinstance(old, dict):
            for key, value in new.items():  # update() of a Counter would add
                old[key] = value
        elif isinstance(old, set):
            old.update(new)
        else:
            old.extend(new)
        return True
    slots = any(vars(base).get("__slots__") for base in old_type.__mro__)
    if slots or not isinstance(getattr(old, "__dict__", None), dict):
        return False
    vars(old).clear()
    vars(old).update(vars(new))
    return True
