"""The run of model.py on a table with local indexes."""

import os

from checks import create, equal, refused
from model_draws import Change, Draw, Refused, Term, Terms, always
from model_run import IDS, Run, key_term
from model_values import order, parts, same, same_in_any_order

# Of each local index: its attribute, the type and the values of that, and what is projected beside the keys.
INDEXES = {
    "by-i": ("i", "N", ["-3", "0", "0.5", "2", "10", "1E3"], "ALL"),
    "by-j": ("j", "S", ["a", "ab", "a\0", "b", "é", "\0\1"], "KEYS_ONLY"),
    "by-k": ("k", "B", [b"\x00", b"\x00\x00", b"\x00\xff", b"a", b"\xff"], ["a", "b"]),
    "by-j-again": ("j", "S", ["a", "ab", "a\0", "b", "é", "\0\1"], "ALL"),
}
INDEXED = {attribute: (kind, values) for attribute, kind, values, _ in INDEXES.values()}


def is_indexable(item):
    """Whether all indexes can hold the item, or leave it out."""
    return all(attribute not in item or item[attribute].get(kind) for attribute, (kind, _) in INDEXED.items())


def only_indexable(before, after):
    """A step of an update: what no index can hold is refused."""
    if not is_indexable(after):
        raise Refused(after)


class IndexedDraw(Draw):
    """Draws attributes that are in indexes, too."""

    def indexed_value(self, attribute):
        """One that the indexes can hold, but for one in ten."""
        kind, values = INDEXED[attribute]
        if self.dice.random() < 0.9:
            return {kind: self.dice.choice(values)}
        return self.value()

    def attributes(self):
        chosen = self.dice.sample(sorted(INDEXED), self.dice.randint(0, len(INDEXED)))
        return {**super().attributes(), **{name: self.indexed_value(name) for name in chosen}}

    def update(self, item):
        """An update as before, or a small one that is seldom refused; mostly with one more action, on what is in an index."""
        if self.dice.random() < 0.3:
            change = super().update(item)
        else:
            change = Change()
            self.set_value(change, "z")
        name, roll = self.dice.choice(sorted(INDEXED)), self.dice.random()
        if roll < 0.5:
            value = self.indexed_value(name)
            change.add("SET", [name], f" = {self.placeholder(value)}", lambda before, after: after.__setitem__(name, value))
        elif roll < 0.7:
            self.remove(change, name)
        elif roll < 0.8:
            self.set_sum(change, "i")
        elif roll < 0.9:
            self.set_default(change, name)
        change.steps.append(only_indexable)
        return change


def place_in(index, item):
    """By what an index orders an item."""
    return order(item[INDEXES[index][0]]), order(item["sk"])


class IndexedRun(Run):
    """The same on a table with local indexes."""

    draw = IndexedDraw

    def made(self):
        indexes = [(name, attribute, kind, projection) for name, (attribute, kind, _, projection) in INDEXES.items()]
        return create(self.db, f"model.indexed.{os.getpid()}", *self.types, indexes)

    def write(self, operation, key, parameters, holds, change, wish=None):
        if operation != "put_item" or is_indexable(parameters["Item"]):
            return super().write(operation, key, parameters, holds, change, wish)
        # Of a put this is told before its condition is looked at.
        answer, code = self.ask(operation, **parameters)
        equal(code, "ValidationException")
        return answer, code

    def write_batch(self, requests, after):
        if all(map(is_indexable, after.values())):
            super().write_batch(requests, after)
            return
        with refused("ValidationException"):
            super().write_batch(requests, after)

    def shown(self, index, item):
        """What an index shows of an item."""
        attribute, _, _, projection = INDEXES[index]
        if projection == "ALL":
            return item
        names = {"pk", "sk", attribute} | (set() if projection == "KEYS_ONLY" else set(projection))
        return {name: value for name, value in item.items() if name in names}

    def there(self, index, holds):
        """The items that an index has where this holds, in its order."""
        found = [item for item in self.items.values() if INDEXES[index][0] in item and holds(item)]
        return sorted(found, key=lambda item: place_in(index, item))

    def wanted(self, draw, index, parameters):
        """A filter, a limit, and what is shown, for some of the reads: what the filter means, and what is shown."""
        holds, shown = always, lambda item: self.shown(index, item)
        if self.dice.random() < 0.4:
            parameters["FilterExpression"], holds = draw.condition()
        if self.dice.random() < 0.6:
            parameters["Limit"] = self.dice.randint(1, 5)
        roll = self.dice.random()
        if roll < 0.2:
            parameters["Select"], shown = "ALL_ATTRIBUTES", lambda item: item
        elif roll < 0.4:
            parameters["ProjectionExpression"], shown = "sk, c.x, k", lambda item: parts(item, [["sk"], ["c", "x"], ["k"]])
        return holds, shown

    def index_query(self):
        draw, index, pk = self.draw(self.dice), self.dice.choice(list(INDEXES)), self.dice.choice(IDS["S"])
        attribute, kind, values, _ = INDEXES[index]
        keys = Terms([Term(["pk"], "EQ", [{"S": pk}])])
        if self.dice.random() < 0.7:
            keys.terms.append(key_term(self.dice, attribute, kind, values))
        parameters = {"IndexName": index, "KeyConditionExpression": keys.text(draw.placeholder), "ConsistentRead": True}
        holds, shown = self.wanted(draw, index, parameters)
        forward = parameters["ScanIndexForward"] = self.dice.random() < 0.5
        items, _ = self.read("query", self.filled(parameters, draw))
        there = self.there(index, keys.holds)
        expected = [shown(item) for item in (there if forward else reversed(there)) if holds(item)]
        assert len(items) == len(expected) and all(map(same, items, expected)), f"found {items}, not {expected}"

    def index_scan(self):
        draw, index = self.draw(self.dice), self.dice.choice(list(INDEXES))
        parameters = {"IndexName": index, "ConsistentRead": True}
        holds, shown = self.wanted(draw, index, parameters)
        self.filled(parameters, draw)
        segments, items = self.dice.choice([1, 1, 2, 5]), []
        for segment in range(segments):
            part = {"TotalSegments": segments, "Segment": segment} if segments > 1 else {}
            items += self.read("scan", {**parameters, **part})[0]
        expected = [shown(item) for item in self.there(index, holds)]
        assert same_in_any_order(items, expected), f"found {items}, not {expected}"

    def step(self):
        before = self.items.copy()
        super().step()
        if self.items != before or self.dice.random() < 0.2:
            (self.index_query if self.dice.random() < 0.75 else self.index_scan)()
