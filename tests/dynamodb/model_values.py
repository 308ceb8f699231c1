"""Values for model.py, as boto3 gives them (DynamoDB's JSON): when two are the same, how they are ordered, what lies at a
path, and whether a comparison holds. Written from AWS's documentation.

A path is a list: the attribute, and then names of maps and places of lists."""

from decimal import Decimal


def plain(value):
    """A value in a form that is the same for equal values."""
    (kind, content), = value.items()
    if kind == "N":
        return kind, Decimal(content)
    if kind in ("SS", "BS"):
        return kind, frozenset(content)
    if kind == "NS":
        return kind, frozenset(Decimal(number) for number in content)
    if kind == "L":
        return kind, tuple(plain(one) for one in content)
    if kind == "M":
        return kind, tuple(sorted((name, plain(one)) for name, one in content.items()))
    return kind, content


def plain_item(item):
    """The same of an item; None where there is none."""
    return None if item is None else plain({"M": item})


def same(item, other):
    return plain_item(item) == plain_item(other)


def same_in_any_order(items, others):
    left = [plain_item(other) for other in others]
    for item in map(plain_item, items):
        if item not in left:
            return False
        left.remove(item)
    return not left


def order(value):
    """What sorts as a number, a string or binary does: numbers by value, the others by their bytes."""
    (kind, content), = value.items()
    return {"N": Decimal, "S": str.encode, "B": bytes}[kind](content)


def path_text(path):
    return path[0] + "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in path[1:])


def inner(value, step):
    """What is at this name of a map or place of a list; None where nothing is."""
    content = (value or {}).get("M" if isinstance(step, str) else "L")
    if content is None:
        return None
    return content.get(step) if isinstance(step, str) else next(iter(content[step : step + 1]), None)


def at(item, path):
    """What lies at a path; None where nothing does."""
    value = item.get(path[0])
    for step in path[1:]:
        value = inner(value, step)
    return value


def part(value, steps):
    """A value with nothing in it but what lies at the end of these steps; None where nothing does."""
    if value is None or not steps:
        return value
    found = part(inner(value, steps[0]), steps[1:])
    if found is None:
        return None
    return {"M": {steps[0]: found}} if isinstance(steps[0], str) else {"L": [found]}


def parts(item, paths):
    """What an answer shows of an item at these paths, each of which is of another attribute."""
    found = {path[0]: part(item.get(path[0]), path[1:]) for path in paths}
    return {name: value for name, value in found.items() if value is not None}


def contains(value, one):
    (kind, content), (kind_of_one, content_of_one) = *value.items(), *one.items()
    if kind == "L":
        return plain(one) in map(plain, content)
    if kind == "NS":
        return kind_of_one == "N" and Decimal(content_of_one) in map(Decimal, content)
    if kind in ("SS", "BS"):
        return kind == f"{kind_of_one}S" and content_of_one in content
    return kind in ("S", "B") and kind == kind_of_one and content_of_one in content


def holds(operator, value, operands):
    """Whether a comparison, by its name in older parameters, holds for what lies somewhere: None where nothing does."""
    if operator in ("NE", "NOT_CONTAINS"):
        return not holds({"NE": "EQ", "NOT_CONTAINS": "CONTAINS"}[operator], value, operands)
    if operator in ("NULL", "NOT_NULL"):
        return (value is None) == (operator == "NULL")
    if value is None:
        return False
    if operator in ("EQ", "IN"):
        return plain(value) in map(plain, operands)
    if operator == "CONTAINS":
        return contains(value, operands[0])
    if value.keys() != operands[0].keys():
        return False
    mine, first, last = order(value), order(operands[0]), order(operands[-1])
    return {
        "LT": lambda: mine < first,
        "LE": lambda: mine <= first,
        "GT": lambda: mine > first,
        "GE": lambda: mine >= first,
        "BETWEEN": lambda: first <= mine <= last,
        "BEGINS_WITH": lambda: mine.startswith(first),
    }[operator]()
