"""ItemCount and TableSizeBytes, to the byte: after items were put, replaced, updated and deleted, and after their time was over. In memory, and
in files: a table with a local index is brought into its files whenever it is described, since its index is counted there.

An attribute counts as AWS defines the size of an item (developer guide, "DynamoDB item sizes and formats"). Where dStore differs is the key: it
counts as it is packed, a hash, marks and the values, without the names of its attributes."""

import os
import time

from checks import check, client, create, equal, fresh, item_of, refused, run, until

db = client()
HASH_BYTES = 4


def digit_pairs(number):
    """Pairs of significant digits of a number as it is told: without an exponent."""
    return (len(number.replace("-", "").replace(".", "").strip("0")) + 1) // 2


def value_bytes(value):
    """The size of an attribute's value."""
    ((kind, content),) = value.items()
    if kind == "L":
        return 3 + sum(1 + value_bytes(part) for part in content)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + value_bytes(part) for name, part in content.items())
    if kind in ("SS", "NS", "BS"):
        return sum(value_bytes({kind[0]: part}) for part in content)
    return {"S": lambda: len(content.encode()), "N": lambda: digit_pairs(content) + 1, "B": lambda: len(content)}.get(kind, lambda: 1)()


def packed_bytes(value, is_last):
    """The size of a part of a key: its type, and the value. Text and bytes that something may follow are ended by two bytes, and each zero
    in them takes two; a number is a mark, a magnitude, its pairs of digits and an end, and zero the mark alone."""
    ((kind, content),) = value.items()
    if kind == "N":
        pairs = digit_pairs(content)
        return 1 + (3 + pairs if pairs else 1)
    plain = content.encode() if kind == "S" else content
    return 1 + len(plain) + (0 if is_last else plain.count(0) + 2)


def item_bytes(item):
    """What an item adds to the size of its table."""
    key = HASH_BYTES + packed_bytes(item["pk"], False) + (packed_bytes(item["sk"], True) if "sk" in item else 0)
    return key + sum(len(name.encode()) + value_bytes(value) for name, value in item.items() if name not in ("pk", "sk"))


class Counted:
    """A table, and the items that have to be in it."""

    def __init__(self, word, *types, **more):
        self.name = create(db, f"table_sizes.{word}.{os.getpid()}", *types, **more)
        self.items = {}

    @staticmethod
    def key(item):
        return {name: item[name] for name in ("pk", "sk") if name in item}

    def put(self, item):
        db.put_item(TableName=self.name, Item=item)
        self.items[str(self.key(item))] = item

    def update(self, key, expression, **values):
        named = {f":{name}": value for name, value in values.items()}
        more = {"ExpressionAttributeValues": named} if named else {}
        db.update_item(TableName=self.name, Key=key, UpdateExpression=expression, **more)
        self.items[str(key)] = item_of(db, self.name, key)

    def delete(self, key):
        db.delete_item(TableName=self.name, Key=key)
        self.items.pop(str(key), None)

    def agree(self):
        """Waits until the table is as large as its items."""
        wanted, told = (len(self.items), sum(map(item_bytes, self.items.values()))), []

        def is_told():
            table = db.describe_table(TableName=self.name)["Table"]
            told.append((table.get("ItemCount"), table.get("TableSizeBytes")))
            return told[-1] == wanted

        try:
            until("it is told", is_told)
        except AssertionError:
            raise AssertionError(f"{told[-1]} instead of {wanted}") from None


def both(word):
    """The same table twice: one that stays in memory, and one that goes to its files each time it is described."""
    yield Counted(f"{word}.memory", "S", "N")
    yield Counted(f"{word}.files", "S", "N", indexes=[("by-word", "word", "S", "KEYS_ONLY")])


def key(sort, pk="p"):
    return {"pk": {"S": pk}, "sk": {"N": str(sort)}}


@check
def values_of_every_type():
    values = {
        "text": {"S": "häuser"},
        "empty": {"S": ""},
        "number": {"N": "-1234.5"},
        "zero": {"N": "0"},
        "round": {"N": "1000"},
        "small": {"N": "0.001"},
        "bytes": {"B": b"\x00\x01\x02"},
        "none": {"NULL": True},
        "flag": {"BOOL": False},
        "words": {"SS": ["a", "bcd"]},
        "counts": {"NS": ["1", "22.5"]},
        "blobs": {"BS": [b"\x00", b"xy"]},
        "list": {"L": [{"S": "a"}, {"L": []}, {"N": "7"}]},
        "map": {"M": {"x": {"S": "yz"}, "größe": {"M": {}}}},
    }
    for table in both("types"):
        table.agree()
        for number, (name, value) in enumerate(values.items()):
            table.put({**key(number), name: value})
            table.agree()
        table.put({**key(100), **values})
        table.agree()


@check
def keys_of_every_type():
    for word, types, keys in [
        ("S", ("S",), [{"pk": {"S": pk}} for pk in ["a", "ä", "nul\x00in\x00it", "k" * 2048]]),
        ("N", ("N",), [{"pk": {"N": pk}} for pk in ["0", "7", "-7", "1000", "0.001", "-12345.678"]]),
        ("B", ("B",), [{"pk": {"B": pk}} for pk in [b"\x00", b"\xff\x00\xff", b"b" * 2048]]),
        ("SS", ("S", "S"), [{"pk": {"S": "a"}, "sk": {"S": sk}} for sk in ["x", "\x00", "k" * 1024]]),
        ("BN", ("B", "N"), [{"pk": {"B": b"\x00"}, "sk": {"N": sk}} for sk in ["0", "-5", "12.34"]]),
        ("NB", ("N", "B"), [{"pk": {"N": "1"}, "sk": {"B": sk}} for sk in [b"\x00\x00", b"a"]]),
    ]:
        table = Counted(f"keys.{word}", *types)
        for item in keys:
            table.put({**item, "a": {"S": word}})
        table.agree()


@check
def what_is_replaced_counts_once():
    for table in both("replaced"):
        for number in range(5):
            table.put({**key(number), "word": {"S": "w" * 10}})
        table.agree()
        for length in [1000, 1, 300_000, 0]:
            table.put({**key(2), "fill": {"S": "x" * length}})
            table.agree()
        table.put({**key(2), "other": {"N": "1"}, "word": {"S": "again"}})
        table.put({**key(2), "other": {"N": "1"}, "word": {"S": "again"}})
        table.agree()


@check
def what_is_updated_counts_as_it_is():
    for table in both("updated"):
        table.update(key(1), "SET fill = :f, n = :n", f={"S": "x" * 500}, n={"N": "99"})
        table.agree()
        table.update(key(1), "ADD n :n", n={"N": "1"})
        table.update(key(1), "SET word = :w", w={"S": "abc"})
        table.agree()
        table.update(key(1), "SET fill = :f ADD marks :m", f={"S": "y"}, m={"SS": ["a", "bb"]})
        table.agree()
        table.update(key(1), "DELETE marks :m", m={"SS": ["bb"]})
        table.update(key(1), "REMOVE fill, word")
        table.agree()
        for why in [{"ConditionExpression": "attribute_not_exists(pk)"}, {"ConditionExpression": "n = :n", "ExpressionAttributeValues": {":n": {"N": "0"}}}]:
            with refused("ConditionalCheckFailedException"):
                db.put_item(TableName=table.name, Item={**key(1), "fill": {"S": "x" * 9000}}, **why)
        table.agree()


@check
def what_is_deleted_counts_no_more():
    for table in both("deleted"):
        for number in range(20):
            table.put({**key(number), "word": {"S": f"w{number}"}, "fill": {"S": "x" * 10 * number}})
        table.agree()
        for number in [0, 19, 7]:
            table.delete(key(number))
        table.delete(key(7))
        table.delete(key(1000))
        table.agree()
        writes = [{"DeleteRequest": {"Key": key(number)}} for number in range(1, 6)]
        equal(db.batch_write_item(RequestItems={table.name: writes})["UnprocessedItems"], {})
        for number in range(1, 6):
            del table.items[str(key(number))]
        table.agree()
        table.put({**key(7), "fill": {"S": "back"}})
        table.agree()
        for item in list(table.items.values()):
            table.delete(table.key(item))
        equal(table.items, {})
        table.agree()


@check
def what_has_expired_counts_until_it_is_removed():
    # Servers that this is tried with look for such items every second: node.expiry_period.
    for table in both("expired"):
        now = int(time.time())
        for number in range(12):
            expires = {"expires": {"N": str(now - 60 if number % 2 else now + 3600)}} if number < 10 else {}
            table.put({**key(number, fresh()), "word": {"S": "w"}, **expires})
        table.agree()
        db.update_time_to_live(TableName=table.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})
        table.items = {key: item for key, item in table.items.items() if int(item.get("expires", {"N": now})["N"]) >= now}
        equal(len(table.items), 7)
        table.agree()


run()
