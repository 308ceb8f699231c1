"""A run of model.py: the server, the model, and the steps. What is drawn for them is in model_draws.py."""

import os
import random

from botocore.exceptions import ClientError

from checks import client, create, equal, pages
from model_draws import Draw, Refused, Term, Terms, Whole, always
from model_values import order, parts, path_text, plain, plain_item, same, same_in_any_order

# Keys by their types: partition keys, those of items that are written in two forms, and sort keys.
IDS = {"S": ["p", "q", "rr"], "N": ["-1", "0", "2.5"], "B": [b"\x00", b"a", b"\xff\x00"]}
TWINS = {"S": ["old", "new"], "N": ["7", "70"], "B": [b"old", b"new"]}
SORTS = {
    "S": ["a", "ab", "a\0", "b", "é"],
    "N": ["-1", "0", "1", "2", "10"],
    "B": [b"\x00", b"\x00\x00", b"a", b"a\xff", b"\xff"],
}


def place_of(item):
    """Where an item, or the item of a key, is."""
    return plain(item["pk"]), plain(item["sk"])


class Run:
    """The server, the model, and the steps."""

    draw = Draw

    def __init__(self, seed, id_type="S", sort_type="N"):
        self.dice = random.Random(seed)
        self.types = id_type, sort_type
        self.db = client()
        self.table = self.made()
        self.items = {}
        self.request = None

    def made(self):
        return create(self.db, f"model.{''.join(self.types)}.{os.getpid()}", *self.types)

    def spelled(self, kind, content):
        """A value of a key; a number sometimes in another spelling."""
        return {kind: f"{content}E0" if kind == "N" and self.dice.random() < 0.2 else content}

    def key(self, pk=None, sk=None):
        (id_type, sort_type) = self.types
        pk = self.dice.choice(IDS[id_type]) if pk is None else pk
        sk = self.dice.choice(SORTS[sort_type]) if sk is None else sk
        return {"pk": self.spelled(id_type, pk), "sk": self.spelled(sort_type, sk)}

    def some_keys(self, most):
        """Several, each another one; those of twins among them."""
        (id_type, sort_type) = self.types
        places = [(pk, sk) for pk in IDS[id_type] + TWINS[id_type] for sk in SORTS[sort_type]]
        return [self.key(*place) for place in self.dice.sample(places, self.dice.randint(1, most))]

    def ask(self, operation, **parameters):
        """What the server says: an answer, or the code of a refusal."""
        self.request = (operation, parameters)
        try:
            return getattr(self.db, operation)(TableName=self.table, **parameters), None
        except ClientError as error:
            return error.response, error.response["Error"]["Code"]

    def filled(self, parameters, draw):
        if draw.values:
            parameters["ExpressionAttributeValues"] = draw.values
        return parameters

    # Writes.

    def guard(self, draw, chance=0.4):
        """A condition for some of the writes: parameters, and what it means."""
        roll = self.dice.random()
        if roll > chance:
            return {}, always
        if roll < chance * 0.2:
            term = Term(["pk"], self.dice.choice(["NULL", "NOT_NULL"]), [])
            return {"ConditionExpression": term.text(draw.placeholder)}, term.holds
        text, holds = draw.condition()
        return {"ConditionExpression": text}, holds

    def wish(self, operation, change):
        """ReturnValues."""
        wishes = ["NONE", "ALL_OLD"]
        if operation == "update_item":
            wishes += ["ALL_NEW", "UPDATED_OLD", *(["UPDATED_NEW"] if change.is_new_known else [])]
        return self.dice.choice(wishes)

    def write(self, operation, key, parameters, holds, change, wish=None):
        """A write, on both sides; what the server said."""
        before = self.items.get(place_of(key))
        refusal, after = None, before
        if not holds(before or {}):
            refusal = "ConditionalCheckFailedException"
        else:
            try:
                after = change.after(before and {name: value for name, value in before.items() if name not in key})
                after = None if after is None else {**after, **key}
            except Refused:
                refusal = "ValidationException"
        wish = wish or self.wish(operation, change)
        answer, code = self.ask(operation, **parameters, ReturnValues=wish, ReturnValuesOnConditionCheckFailure="ALL_OLD")
        equal(code, refusal)
        shown = {"NONE": None, "ALL_OLD": before, "ALL_NEW": after}
        shown.update(UPDATED_OLD=parts(before or {}, change.paths), UPDATED_NEW=parts(after or {}, change.paths))
        expected = (shown[wish] or None) if code is None else None
        assert same(answer.get("Attributes"), expected), f"returned {answer.get('Attributes')}, not {expected}"
        if code == "ConditionalCheckFailedException":
            assert same(answer.get("Item"), before), f"returned {answer.get('Item')}, not {before}"
        if code is None and after is None:
            self.items.pop(place_of(key), None)
        elif code is None:
            self.items[place_of(key)] = after
        return answer, code

    def put(self):
        draw, key = self.draw(self.dice), self.key()
        attributes = draw.attributes()
        condition, holds = self.guard(draw)
        parameters = self.filled({"Item": {**key, **attributes}, **condition}, draw)
        self.write("put_item", key, parameters, holds, Whole(attributes))

    def remove(self):
        draw, key = self.draw(self.dice), self.key()
        condition, holds = self.guard(draw)
        self.write("delete_item", key, self.filled({"Key": key, **condition}, draw), holds, Whole(None))

    def update(self):
        draw, key = self.draw(self.dice), self.key()
        change = draw.update(self.items.get(place_of(key)))
        condition, holds = self.guard(draw)
        parameters = {"Key": key, **condition}
        if change.text():
            parameters["UpdateExpression"] = change.text()
        self.write("update_item", key, self.filled(parameters, draw), holds, change)

    def twins(self):
        """One write to two items that are alike: with older parameters, and with expressions."""
        draw, sk = self.draw(self.dice), self.dice.choice(SORTS[self.types[1]])
        keys = [self.key(pk, sk) for pk in TWINS[self.types[0]]]
        self.make_alike(keys)
        operation = self.dice.choice(["put_item", "delete_item", "update_item", "update_item"])
        older, newer, holds, attributes = {}, {}, always, None
        if operation == "update_item":
            change = draw.older_update()
            older["AttributeUpdates"], newer["UpdateExpression"] = change.older, change.text()
        else:
            attributes = draw.attributes() if operation == "put_item" else None
            change = Whole(attributes)
        if self.dice.random() < 0.7:
            terms = draw.terms()
            holds = terms.holds
            older.update(terms.older("Expected", self.dice.random() < 0.5))
            newer["ConditionExpression"] = terms.text(draw.placeholder)
        self.filled(newer, draw)
        wish, told = self.wish(operation, change), []
        for key, form in zip(keys, (older, newer)):
            subject = {"Key": key} if attributes is None else {"Item": {**key, **attributes}}
            answer, code = self.write(operation, key, {**subject, **form}, holds, change, wish)
            told.append((code, self.but_id(answer.get("Attributes")), self.but_id(answer.get("Item"))))
        equal(told[0], told[1])

    def make_alike(self, keys):
        """Makes items of these keys that are some item, or none."""
        some = self.dice.choice([None, *self.items.values()])
        after = dict(self.items)
        requests = []
        for key in keys:
            after.pop(place_of(key), None)
            if some is None:
                requests.append({"DeleteRequest": {"Key": key}})
            else:
                item = after[place_of(key)] = {**some, **key}
                requests.append({"PutRequest": {"Item": item}})
        self.write_batch(requests, after)

    def but_id(self, item):
        return item and plain_item({name: value for name, value in item.items() if name != "pk"})

    def batch(self):
        requests, after = [], dict(self.items)
        for key in self.some_keys(6):
            if self.dice.random() < 0.7:
                item = after[place_of(key)] = {**key, **self.draw(self.dice).attributes()}
                requests.append({"PutRequest": {"Item": item}})
            else:
                after.pop(place_of(key), None)
                requests.append({"DeleteRequest": {"Key": key}})
        self.write_batch(requests, after)

    def write_batch(self, requests, after):
        self.request = ("batch_write_item", requests)
        answer = self.db.batch_write_item(RequestItems={self.table: requests})
        equal(answer["UnprocessedItems"], {})
        self.items = after

    # Reads.

    def projected(self, draw, chance=0.5):
        """What is wanted of items, for some of the reads: parameters, and what it leaves of an item."""
        roll = self.dice.random()
        if roll > chance:
            return {}, lambda item: item
        paths = draw.projection(is_nested=roll < chance / 2)
        if roll < chance / 2:
            told = {"ProjectionExpression": ", ".join(map(path_text, paths))}
        else:
            told = {"AttributesToGet": [path[0] for path in paths]}
        return told, lambda item: parts(item, paths)

    def get(self):
        key = self.key()
        wanted, left = self.projected(self.draw(self.dice))
        answer, code = self.ask("get_item", Key=key, ConsistentRead=True, **wanted)
        item = self.items.get(place_of(key))
        expected = item and left(item)
        assert code is None and same(answer.get("Item"), expected), f"read {answer.get('Item')}, not {expected}"

    def batch_get(self):
        keys = self.some_keys(8)
        wanted, left = self.projected(self.draw(self.dice))
        request = {self.table: {"Keys": keys, "ConsistentRead": True, **wanted}}
        self.request = ("batch_get_item", request)
        answer = self.db.batch_get_item(RequestItems=request)
        equal(answer["UnprocessedKeys"], {})
        items = answer["Responses"].get(self.table, [])
        expected = [left(self.items[place_of(key)]) for key in keys if place_of(key) in self.items]
        assert same_in_any_order(items, expected), f"read {items}, not {expected}"

    def read(self, operation, parameters):
        """All items of a Query or Scan, and what of its pages is to be the same in another form."""
        self.request = (operation, parameters)
        read = list(pages(getattr(self.db, operation), TableName=self.table, **parameters))
        told = [(page["Count"], page["ScannedCount"], plain_item(page.get("LastEvaluatedKey"))) for page in read]
        items = [item for page in read for item in page["Items"]]
        return items, (told, list(map(plain_item, items)))

    def in_both_forms(self, operation, draw, common, keys=None):
        """A Query or Scan that older parameters can say, too, asked in both forms: the items, which, and what of them."""
        older, newer, holds, paths = dict(common), dict(common), always, None
        if keys:
            older["KeyConditions"] = keys.older("KeyConditions")["KeyConditions"]
            newer["KeyConditionExpression"] = keys.text(draw.placeholder)
        if self.dice.random() < 0.7:
            terms = draw.terms()
            holds = terms.holds
            older.update(terms.older("QueryFilter" if keys else "ScanFilter"))
            newer["FilterExpression"] = terms.text(draw.placeholder)
        if self.dice.random() < 0.5:
            paths = draw.projection(is_nested=False)
            older["AttributesToGet"] = [path[0] for path in paths]
            newer["ProjectionExpression"] = ", ".join(map(path_text, paths))
        items, told = self.read(operation, self.filled(newer, draw))
        equal(self.read(operation, older)[1], told)
        return items, holds, (lambda item: parts(item, paths)) if paths else lambda item: item

    def with_expressions(self, operation, draw, common, keys=None):
        """The same where only an expression can say what is filtered."""
        parameters, holds = dict(common), always
        if keys:
            parameters["KeyConditionExpression"] = keys.text(draw.placeholder)
        if self.dice.random() < 0.5:
            parameters["FilterExpression"], holds = draw.condition()
        wanted, left = {}, lambda item: item
        if self.dice.random() < 0.3:
            paths = draw.projection()
            wanted, left = {"ProjectionExpression": ", ".join(map(path_text, paths))}, lambda item: parts(item, paths)
        items, _ = self.read(operation, self.filled({**parameters, **wanted}, draw))
        return items, holds, left

    def asked(self, operation, common, keys=None):
        draw = self.draw(self.dice)
        form = self.in_both_forms if self.dice.random() < 0.3 else self.with_expressions
        return form(operation, draw, common, keys)

    def query(self):
        (id_type, sort_type) = self.types
        terms = [Term(["pk"], "EQ", [self.spelled(id_type, self.dice.choice(IDS[id_type]))])]
        if self.dice.random() < 0.6:
            terms.append(key_term(self.dice, "sk", sort_type, SORTS[sort_type]))
        keys = Terms(terms)
        common = {"ConsistentRead": True, "ScanIndexForward": self.dice.random() < 0.5}
        if self.dice.random() < 0.5:
            common["Limit"] = self.dice.randint(1, 4)
        items, holds, left = self.asked("query", common, keys)
        there = sorted(filter(keys.holds, self.items.values()), key=lambda item: order(item["sk"]))
        there = there if common["ScanIndexForward"] else reversed(there)
        expected = [left(item) for item in there if holds(item)]
        assert len(items) == len(expected) and all(map(same, items, expected)), f"found {items}, not {expected}"

    def scan(self):
        common = {"ConsistentRead": True, "Limit": self.dice.randint(4, 30)}
        items, holds, left = self.asked("scan", common)
        expected = [left(item) for item in self.items.values() if holds(item)]
        assert same_in_any_order(items, expected), f"found {items}, not {expected}"

    def step(self):
        weights = {self.put: 4, self.update: 6, self.remove: 2, self.twins: 2, self.get: 3, self.batch_get: 1}
        weights.update({self.query: 2, self.scan: 1, self.batch: 1})
        self.dice.choices(list(weights), list(weights.values()))[0]()


def key_term(dice, attribute, kind, contents):
    """A comparison of a key attribute with some of these, as a Query can have it."""
    operator = dice.choice(["EQ", "LT", "LE", "GT", "GE", "BETWEEN", "BETWEEN", *(["BEGINS_WITH"] if kind != "N" else [])])
    operands = [{kind: dice.choice(contents)} for _ in range(2 if operator == "BETWEEN" else 1)]
    return Term([attribute], operator, sorted(operands, key=order))
