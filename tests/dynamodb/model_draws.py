"""What model.py asks of a server, drawn at random: values, conditions, updates and projections. What is drawn knows its text
and what it means, and where the parameters that expressions replaced can say it, how they do."""

import copy
from decimal import Decimal

from model_values import at, holds, inner, order, path_text

NAMES = ["a", "b", "c", "d"]
# How expressions say what these operators of the older parameters mean.
TEXTS = {
    "EQ": "{} = {}",
    "NE": "{} <> {}",
    "LT": "{} < {}",
    "LE": "{} <= {}",
    "GT": "{} > {}",
    "GE": "{} >= {}",
    "BETWEEN": "{} BETWEEN {} AND {}",
    "NULL": "attribute_not_exists({})",
    "NOT_NULL": "attribute_exists({})",
    "CONTAINS": "contains({}, {})",
    "NOT_CONTAINS": "NOT contains({}, {})",
    "BEGINS_WITH": "begins_with({}, {})",
}
OPERATORS = [*TEXTS, "IN"]
SETS = {"SS": ["a", "b", "c"], "NS": ["1", "2", "3.5"], "BS": [b"a", b"b", b"\x00"]}
# What has to be there for these ways of changing an attribute; None: nothing.
SUITED = {
    "set_sum": ["N"],
    "set_list": [None, "L"],
    "set_deep": ["M", "L"],
    "remove_deep": ["M", "L"],
    "add": [None, "N", *SETS],
    "delete": [None, *SETS],
}


class Refused(Exception):
    """The model refuses an update."""


def always(item):
    return True


class Term:
    """One comparison of what lies at a path."""

    def __init__(self, path, operator, operands):
        self.path, self.operator, self.operands = path, operator, operands

    def text(self, placeholder):
        operands = [placeholder(operand) for operand in self.operands]
        if self.operator == "IN":
            return f"{path_text(self.path)} IN ({', '.join(operands)})"
        return TEXTS[self.operator].format(path_text(self.path), *operands)

    def older(self, is_plain=False):
        """The same in older parameters; plainly where it can be said without an operator, as Expected could at first."""
        if is_plain and self.operator == "EQ":
            return {"Value": self.operands[0]}
        if is_plain and self.operator == "NULL":
            return {"Exists": False}
        told = {"ComparisonOperator": self.operator}
        return {**told, "AttributeValueList": self.operands} if self.operands else told

    def holds(self, item):
        return holds(self.operator, at(item, self.path), self.operands)


class Terms:
    """Comparisons of different attributes, all of which have to hold, or one."""

    def __init__(self, terms, is_any=False):
        self.terms, self.is_any = terms, is_any

    def text(self, placeholder):
        return (" OR " if self.is_any else " AND ").join(term.text(placeholder) for term in self.terms)

    def older(self, parameter, is_plain=False):
        """The older parameter of this name, and how its parts go together."""
        told = {parameter: {term.path[0]: term.older(is_plain) for term in self.terms}}
        if len(self.terms) > 1:
            told["ConditionalOperator"] = "OR" if self.is_any else "AND"
        return told

    def holds(self, item):
        return (any if self.is_any else all)(term.holds(item) for term in self.terms)


class Whole:
    """A put of these attributes; or a delete, where they are None."""

    paths, is_new_known = [], True

    def __init__(self, attributes):
        self.attributes = attributes

    def after(self, before):
        return self.attributes


class Change:
    """An update: its clauses, the paths that it names, what it does, and AttributeUpdates of one meaning, as far as there are."""

    def __init__(self):
        self.clauses = {"SET": [], "REMOVE": [], "ADD": [], "DELETE": []}
        self.paths, self.steps, self.older = [], [], {}
        # Whether it is written down somewhere what UPDATED_NEW tells of it: elements of lists may come to lie elsewhere.
        self.is_new_known = True

    def add(self, clause, path, rest, step):
        """One action: its clause, what it changes, its text behind that, and a function of the item before and the item after."""
        self.clauses[clause].append(path_text(path) + rest)
        self.paths.append(path)
        self.steps.append(step)

    def text(self):
        return " ".join(f"{word} {', '.join(actions)}" for word, actions in self.clauses.items() if actions)

    def only_takes_away(self):
        taken = self.clauses["REMOVE"] or self.clauses["DELETE"]
        return bool(taken) and not (self.clauses["SET"] or self.clauses["ADD"])

    def after(self, before):
        """The attributes after the update, those of the key aside; None where there is no item, as `before` is, too."""
        after = copy.deepcopy(before or {})
        for step in self.steps:
            step(before or {}, after)
        return None if before is None and self.only_takes_away() else after


def parent(item, path):
    """The map or list that the last step of a path leads into."""
    content = (at(item, path[:-1]) or {}).get("M" if isinstance(path[-1], str) else "L")
    if content is None:
        raise Refused(path)
    return content


class Draw:
    """Draws for one request, whose values it gathers."""

    def __init__(self, dice):
        self.dice = dice
        self.values = {}

    def placeholder(self, value):
        name = f":v{len(self.values)}"
        self.values[name] = value
        return name

    # Values and paths.

    def of_kind(self, kind, has_empty=True):
        every = {
            "N": ["0", "1", "2", "-3", "0.5", "10", "1E3", "99999999999999999999"],
            "S": ["a", "ab", "b", "é", *([""] if has_empty else [])],
            "B": [b"\x00", b"ab", b"b", *([b""] if has_empty else [])],
        }
        return {kind: self.dice.choice(every[kind])}

    def scalar(self):
        kind = self.dice.choice(["N", "N", "S", "S", "B", "BOOL", "NULL"])
        if kind in ("BOOL", "NULL"):
            return {"BOOL": self.dice.random() < 0.5} if kind == "BOOL" else {"NULL": True}
        return self.of_kind(kind)

    def set(self, there=None):
        """A set; mostly one of the type that is there."""
        kind = next(iter(there or [None]))
        if kind not in SETS or self.dice.random() < 0.2:
            kind = self.dice.choice(list(SETS))
        return {kind: self.dice.sample(SETS[kind], self.dice.randint(1, 3))}

    def value(self, depth=0):
        roll = self.dice.random()
        if roll < 0.5 or depth > 2:
            return self.scalar()
        if roll < 0.65:
            return self.set()
        if roll < 0.82:
            return {"L": [self.value(depth + 1) for _ in range(self.dice.randint(0, 3))]}
        names = self.dice.sample(["x", "y", "z"], self.dice.randint(0, 3))
        return {"M": {name: self.value(depth + 1) for name in names}}

    def attributes(self):
        return {name: self.value() for name in self.dice.sample(NAMES, self.dice.randint(0, len(NAMES)))}

    def steps(self):
        return self.dice.choice([[], [], [], ["x"], ["y"], [0], [1], ["x", "y"], ["y", 0], [1, "x"]])

    def path(self):
        return [self.dice.choice(NAMES), *self.steps()]

    def way_into(self, value):
        """Steps into a map or a list: to what is there, or to the first place that is free."""
        steps = []
        while value is not None and ("M" in value or "L" in value) and (not steps or self.dice.random() < 0.5):
            free = [*value["M"], "w"] if "M" in value else range(len(value["L"]) + 1)
            steps.append(self.dice.choice(free))
            value = inner(value, steps[-1])
        return steps

    # Conditions and projections.

    def operands(self, operator):
        if operator in ("NULL", "NOT_NULL"):
            return []
        if operator in ("EQ", "NE"):
            return [self.value()]
        if operator in ("CONTAINS", "NOT_CONTAINS", "BEGINS_WITH"):
            kinds = ["S", "B"] if operator == "BEGINS_WITH" else ["S", "N", "B"]
            return [self.of_kind(self.dice.choice(kinds), has_empty=False)]
        kind, count = self.dice.choice("SNB"), {"BETWEEN": 2, "IN": self.dice.randint(1, 3)}.get(operator, 1)
        operands = [self.of_kind(kind) for _ in range(count)]
        return sorted(operands, key=order) if operator == "BETWEEN" else operands

    def term(self, path):
        operator = self.dice.choice(OPERATORS)
        return Term(path, operator, self.operands(operator))

    def terms(self):
        """What both expressions and older parameters can say."""
        names = self.dice.sample(NAMES, self.dice.randint(1, 3))
        return Terms([self.term([name]) for name in names], self.dice.random() < 0.5)

    def condition(self, depth=0):
        """Text and meaning of a condition that only an expression can say."""
        roll = self.dice.random()
        if depth < 3 and roll < 0.35:
            kind = self.dice.choice(["AND", "OR", "NOT"])
            left, is_left = self.condition(depth + 1)
            if kind == "NOT":
                return f"NOT ({left})", lambda item: not is_left(item)
            right, is_right = self.condition(depth + 1)
            if kind == "AND":
                return f"({left}) AND ({right})", lambda item: is_left(item) and is_right(item)
            return f"({left}) OR ({right})", lambda item: is_left(item) or is_right(item)
        if roll < 0.85:
            term = self.term(self.path())
            return term.text(self.placeholder), term.holds
        return self.dice.choice([self.kind, self.size])()

    def kind(self):
        path, kind = self.path(), self.dice.choice(["S", "N", "B", "BOOL", "NULL", "L", "M", "SS", "NS", "BS"])
        return f"attribute_type({path_text(path)}, {self.placeholder({'S': kind})})", lambda item: kind in (at(item, path) or {})

    def size(self):
        path, limit = self.path(), self.dice.randint(0, 3)

        def is_larger(item):
            (kind, content), = (at(item, path) or {"none": ""}).items()
            if kind == "S":
                return len(content.encode()) > limit
            return kind in ("B", "L", "M", "SS", "NS", "BS") and len(content) > limit

        return f"size({path_text(path)}) > {self.placeholder({'N': str(limit)})}", is_larger

    def projection(self, is_nested=True):
        """Paths of different attributes, one of them of the key."""
        names = self.dice.sample(NAMES, self.dice.randint(0, 3))
        return [["pk"], *([name, *(self.steps() if is_nested else [])] for name in names)]

    # Updates.

    def update(self, item):
        """An update; `item` is what it will be asked of, and may be None."""
        change = Change()
        if self.dice.random() < 0.05:
            return change
        ways = [self.set_value, self.set_default, self.set_copy, self.remove, *SUITED]
        if item is None and self.dice.random() < 0.3:
            ways = [self.remove, "delete"]
        for name in self.dice.sample(NAMES, self.dice.randint(1, len(NAMES))):
            there, way = (item or {}).get(name), self.dice.choice(ways)
            if way in SUITED:
                # Seldom what the server will refuse, for then it refuses all of the update.
                suits = next(iter(there or [None])) in SUITED[way] or self.dice.random() < 0.15
                way = getattr(self, way) if suits else self.set_value
            way(change, name, there)
        return change

    def older_update(self):
        """One that AttributeUpdates can say, too."""
        change = Change()
        for name in self.dice.sample(NAMES, self.dice.randint(1, 3)):
            self.dice.choice([self.set_value, self.add, self.delete, self.remove])(change, name)
        return change

    def set_value(self, change, name, there=None):
        value = self.value()
        change.add("SET", [name], f" = {self.placeholder(value)}", lambda before, after: after.__setitem__(name, value))
        change.older[name] = {"Action": "PUT", "Value": value}

    def set_default(self, change, name, there=None):
        value, path = self.value(), [name, *self.steps()]

        def step(before, after):
            found = at(before, path)
            after[name] = value if found is None else copy.deepcopy(found)

        change.add("SET", [name], f" = if_not_exists({path_text(path)}, {self.placeholder(value)})", step)

    def set_copy(self, change, name, there=None):
        path = self.path()

        def step(before, after):
            found = at(before, path)
            if found is None:
                raise Refused(path)
            after[name] = copy.deepcopy(found)

        change.add("SET", [name], f" = {path_text(path)}", step)

    def set_sum(self, change, name, there=None):
        value, sign = self.of_kind("N"), self.dice.choice(["+", "-"])

        def step(before, after):
            if "N" not in before.get(name, {}):
                raise Refused(name)
            mine, theirs = Decimal(before[name]["N"]), Decimal(value["N"])
            after[name] = {"N": str(mine + theirs if sign == "+" else mine - theirs)}

        change.add("SET", [name], f" = {name} {sign} {self.placeholder(value)}", step)

    def set_list(self, change, name, there=None):
        more = {"L": [self.scalar()]}
        empty = self.placeholder({"L": []})

        def step(before, after):
            mine = before.get(name, {"L": []})
            if "L" not in mine:
                raise Refused(name)
            after[name] = {"L": mine["L"] + more["L"]}

        change.add("SET", [name], f" = list_append(if_not_exists({name}, {empty}), {self.placeholder(more)})", step)

    def deep_path(self, name, there):
        """A path into what is there; or into what is not, which will be refused."""
        return [name, *(self.way_into(there) or [self.dice.choice(["x", 1])])]

    def set_deep(self, change, name, there=None):
        value, path = self.scalar(), self.deep_path(name, there)
        if isinstance(path[-1], int) and self.dice.random() < 0.2:
            path[-1] += 3  # beyond the end is at the end
            change.is_new_known = False

        def step(before, after):
            parent(before, path)
            if isinstance(path[-1], str):
                parent(after, path)[path[-1]] = value
            else:
                parent(after, path)[path[-1] : path[-1] + 1] = [value]

        change.add("SET", path, f" = {self.placeholder(value)}", step)

    def remove(self, change, name, there=None):
        change.add("REMOVE", [name], "", lambda before, after: after.pop(name, None))
        change.older[name] = {"Action": "DELETE"}

    def remove_deep(self, change, name, there=None):
        path = self.deep_path(name, there)
        change.is_new_known &= isinstance(path[-1], str)

        def step(before, after):
            parent(before, path)
            if isinstance(path[-1], str):
                parent(after, path).pop(path[-1], None)
            else:
                del parent(after, path)[path[-1] : path[-1] + 1]

        change.add("REMOVE", path, "", step)

    def add(self, change, name, there=None):
        value = self.of_kind("N") if self.dice.random() < 0.5 else self.set(there)
        (kind, content), = value.items()

        def step(before, after):
            if name not in before:
                after[name] = value
            elif kind not in before[name]:
                raise Refused(name)
            elif kind == "N":
                after[name] = {"N": str(Decimal(before[name]["N"]) + Decimal(content))}
            else:
                known = elements(before[name])
                after[name] = {kind: before[name][kind] + [one for one in content if element(kind, one) not in known]}

        change.add("ADD", [name], f" {self.placeholder(value)}", step)
        change.older[name] = {"Action": "ADD", "Value": value}

    def delete(self, change, name, there=None):
        value = self.set(there)
        (kind, _), = value.items()

        def step(before, after):
            if name not in before:
                return
            if kind not in before[name]:
                raise Refused(name)
            gone = elements(value)
            left = [one for one in before[name][kind] if element(kind, one) not in gone]
            if left:
                after[name] = {kind: left}
            else:
                after.pop(name)

        change.add("DELETE", [name], f" {self.placeholder(value)}", step)
        change.older[name] = {"Action": "DELETE", "Value": value}


def element(kind, one):
    return Decimal(one) if kind == "NS" else one


def elements(value):
    (kind, content), = value.items()
    return {element(kind, one) for one in content}
