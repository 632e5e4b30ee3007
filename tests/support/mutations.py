"""Changes to values inside JSON objects, for tests of files that were tampered with."""

import copy


def positions(value, at=()):
    """Yield the path to each value inside a JSON object."""
    for key, inner in value.items():
        yield (*at, key)
        if isinstance(inner, dict):
            yield from positions(inner, (*at, key))


def changed(whole, at, value):
    """Return a JSON object with another value at a path; `...` deletes the value."""
    result = copy.deepcopy(whole)
    inner = result
    for key in at[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return result
