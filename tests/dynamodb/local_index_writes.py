"""Local secondary indexes as they are written: each write of an item is a write of its indexes, before it is answered. What cannot stand
in an index is refused, and what indexes cost and how large item collections are is told where it is asked for."""

import os
import time

from checks import check, client, create, equal, fresh, item_of, pages, refused, run, table, until

db = client()
WORD, AMOUNT, MARK = "by-word", "by-amount", "by-mark"
INDEXES = [(WORD, "word", "S", "KEYS_ONLY"), (AMOUNT, "amount", "N", ["note"]), (MARK, "mark", "B", "ALL")]
UPDATED = "The update expression attempted to update the secondary index key to "
EMPTY = "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The AttributeValue for a key attribute cannot contain an empty "
TOO_LONG = "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of 1024 bytes"
_name = []


def indexed():
    """The table of this script: strings and numbers as keys."""
    if not _name:
        _name.append(create(db, f"local_index_writes.{os.getpid()}", "S", "N", INDEXES))
    return _name[0]


class Partition:
    """The items under a partition key that nobody else uses."""

    def __init__(self):
        self.pk = {"S": fresh()}

    def key(self, number):
        return {"pk": self.pk, "sk": {"N": str(number)}}

    def put(self, number, **more):
        """Puts an item; what begins with a capital is a parameter of the request, all else an attribute."""
        parameters = {name: more.pop(name) for name in list(more) if name[0].isupper()}
        return db.put_item(TableName=indexed(), Item={**self.key(number), **more}, **parameters)

    def update(self, number, expression, values=None, **more):
        if values:
            more["ExpressionAttributeValues"] = values
        return db.update_item(TableName=indexed(), Key=self.key(number), UpdateExpression=expression, **more)

    def delete(self, number, **more):
        return db.delete_item(TableName=indexed(), Key=self.key(number), **more)

    def item(self, number):
        return item_of(db, indexed(), self.key(number))

    def order(self, index, **more):
        """The sort keys of the items in an index, in its order."""
        ask = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": self.pk}, "ConsistentRead": True, **more}
        return [int(item["sk"]["N"]) for page in pages(db.query, TableName=indexed(), IndexName=index, **ask) for item in page["Items"]]


def text(value):
    return {"S": value}


def number(value):
    return {"N": str(value)}


@check
def updates_move_an_item():
    here = Partition()
    for place in range(5):
        here.put(place, word=text(f"w{place}"), amount=number(place), mark={"B": bytes([place])})
    equal(here.order(WORD), [0, 1, 2, 3, 4])
    here.update(2, "SET word = :x", {":x": text("w9")})
    equal((here.order(WORD), here.order(AMOUNT), here.order(MARK)), ([0, 1, 3, 4, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]))
    here.update(4, "SET amount = amount - :x, mark = :m", {":x": number("4.5"), ":m": {"B": b"\x00\x00"}})
    equal((here.order(WORD), here.order(AMOUNT), here.order(MARK)), ([0, 1, 3, 4, 2], [4, 0, 1, 2, 3], [0, 4, 1, 2, 3]))
    here.update(0, "ADD amount :x", {":x": number(100)})
    equal(here.order(AMOUNT), [4, 1, 2, 3, 0])
    here.put(3, word=text("a"))
    equal((here.order(WORD), here.order(AMOUNT), here.order(MARK)), ([3, 0, 1, 4, 2], [4, 1, 2, 0], [0, 4, 1, 2]))
    here.update(1, "SET extra = :x", {":x": number(1)})
    equal((here.order(WORD), here.order(AMOUNT), here.order(MARK)), ([3, 0, 1, 4, 2], [4, 1, 2, 0], [0, 4, 1, 2]))
    # The entry has the item as it is now.
    (found,) = db.query(
        TableName=indexed(),
        IndexName=MARK,
        KeyConditionExpression="pk = :pk AND mark = :m",
        ExpressionAttributeValues={":pk": here.pk, ":m": {"B": b"\x01"}},
        ConsistentRead=True,
    )["Items"]
    equal(found, here.item(1))


@check
def what_loses_the_attribute_leaves_the_index():
    here = Partition()
    for place in range(6):
        here.put(place, word=text("w"), amount=number(1), mark={"B": b"m"})
    equal(here.order(WORD), [0, 1, 2, 3, 4, 5])
    here.update(0, "REMOVE word")
    here.put(1, amount=number(1), mark={"B": b"m"})
    here.delete(2)
    db.update_item(TableName=indexed(), Key=here.key(3), AttributeUpdates={"word": {"Action": "DELETE"}})
    db.batch_write_item(RequestItems={indexed(): [{"DeleteRequest": {"Key": here.key(4)}}]})
    equal((here.order(WORD), here.order(AMOUNT), here.order(MARK)), ([5], [0, 1, 3, 5], [0, 1, 3, 5]))
    here.update(0, "SET word = :w", {":w": text("a")})
    here.put(2, word=text("z"))
    equal((here.order(WORD), here.order(AMOUNT)), ([0, 5, 2], [0, 1, 3, 5]))


@check
def an_item_that_moves_often_is_there_once():
    here = Partition()
    here.put(7, word=text("0"), amount=number(0))
    for step in range(1, 60):
        here.update(7, "SET word = :w, amount = amount + :a", {":w": text(str(step * 37 % 100)), ":a": number((-1) ** step * step)})
        equal((here.order(WORD), here.order(AMOUNT)), ([7], [7]))
    found = db.query(TableName=indexed(), IndexName=AMOUNT, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": here.pk}, ConsistentRead=True)["Items"]
    equal(found, [{**here.key(7), "amount": here.item(7)["amount"]}])


@check
def batches():
    here = Partition()
    writes = [{"PutRequest": {"Item": {**here.key(place), "word": text(f"{place * 7 % 25:02}")}}} for place in range(25)]
    equal(db.batch_write_item(RequestItems={indexed(): writes})["UnprocessedItems"], {})
    wanted = sorted(range(25), key=lambda place: place * 7 % 25)
    equal(here.order(WORD), wanted)
    changes = [{"DeleteRequest": {"Key": here.key(place)}} for place in range(12)]
    changes += [{"PutRequest": {"Item": {**here.key(place), "word": text("~")}}} for place in range(12, 15)]
    db.batch_write_item(RequestItems={indexed(): changes})
    equal(here.order(WORD), [place for place in wanted if place > 14] + [12, 13, 14])


@check
def a_write_that_fails_changes_no_index():
    here = Partition()
    here.put(1, word=text("a"), amount=number(1))
    for attempt in [
        lambda: here.put(1, word=text("z"), ConditionExpression="attribute_not_exists(pk)"),
        lambda: here.update(1, "SET word = :z", {":z": text("z"), ":n": number(5)}, ConditionExpression="amount > :n"),
        lambda: here.delete(1, ConditionExpression="attribute_not_exists(word)"),
    ]:
        with refused("ConditionalCheckFailedException", "The conditional request failed"):
            attempt()
    with refused("ConditionalCheckFailedException"):
        here.update(2, "SET word = :z", {":z": text("z")}, ConditionExpression="attribute_exists(pk)")
    equal((here.order(WORD), here.order(AMOUNT)), ([1], [1]))
    equal(here.item(1), {**here.key(1), "word": text("a"), "amount": number(1)})


@check
def puts_that_an_index_cannot_hold():
    here = Partition()
    types = {
        "N": number(1),
        "B": {"B": b"x"},
        "NULL": {"NULL": True},
        "BOOL": {"BOOL": True},
        "L": {"L": []},
        "M": {"M": {}},
        "SS": {"SS": ["a"]},
        "NS": {"NS": ["1"]},
        "BS": {"BS": [b"a"]},
    }
    mismatch = "One or more parameter values were invalid: Type mismatch for Index Key {} Expected: {} Actual: {} IndexName: {}"
    for kind, value in types.items():
        with refused("ValidationException", mismatch.format("word", "S", kind, WORD)):
            here.put(1, word=value)
    with refused("ValidationException", mismatch.format("amount", "N", "S", AMOUNT)):
        here.put(1, word=text("a"), amount=text("1"))
    with refused("ValidationException", mismatch.format("mark", "B", "S", MARK)):
        here.put(1, mark=text("eA=="))
    with refused("ValidationException", EMPTY + "string value. IndexName: by-word, IndexKey: word"):
        here.put(1, word=text(""))
    with refused("ValidationException", EMPTY + "binary value. IndexName: by-mark, IndexKey: mark"):
        here.put(1, mark={"B": b""})
    with refused("ValidationException", TOO_LONG):
        here.put(1, word=text("x" * 1025))
    with refused("ValidationException", TOO_LONG):
        here.put(1, word=text("é" * 513))
    with refused("ValidationException", TOO_LONG):
        here.put(1, mark={"B": b"x" * 1025})
    assert here.item(1) is None, "what is refused is not there"
    equal((here.order(WORD), here.order(MARK)), ([], []))
    here.put(1, word=text("é" * 512), mark={"B": b"\x00" * 1024})
    equal((here.order(WORD), here.order(MARK)), ([1], [1]))
    # Only the attribute of that name at the top is the index's.
    here.put(2, m={"M": {"word": number(1), "mark": text("")}}, words=number(1))
    equal(here.order(WORD), [1])


@check
def updates_that_an_index_cannot_hold():
    here = Partition()
    before = {"word": text("a"), "amount": number(1), "mark": {"B": b"m"}}
    here.put(1, **before)
    unsupported = UPDATED + "unsupported type"
    for expression, value in [
        ("SET word = :x", number(1)),
        ("SET word = :x", {"NULL": True}),
        ("SET word = :x", {"L": [text("a")]}),
        ("SET amount = :x", text("1")),
        ("SET mark = :x", text("m")),
        ("SET extra = :x, amount = word", number(1)),
        ("SET extra = :x, amount = if_not_exists(nothing, word)", number(1)),
    ]:
        with refused("ValidationException", unsupported):
            here.update(1, expression, {":x": value})
    with refused("ValidationException", unsupported):
        here.update(2, "ADD word :x", {":x": {"SS": ["a"]}})
    not_supported = UPDATED + "a value that is not supported. The AttributeValue for a key attribute cannot contain an empty "
    with refused("ValidationException", not_supported + "string value."):
        here.update(1, "SET word = :x", {":x": text("")})
    with refused("ValidationException", not_supported + "binary value."):
        here.update(1, "SET mark = :x", {":x": {"B": b""}})
    with refused("ValidationException", TOO_LONG):
        here.update(1, "SET word = :x", {":x": text("x" * 1025)})
    with refused("ValidationException", unsupported):
        db.update_item(TableName=indexed(), Key=here.key(1), AttributeUpdates={"word": {"Action": "PUT", "Value": number(1)}})
    equal(here.item(1), {**here.key(1), **before})
    assert here.item(2) is None, "a refused update makes no item"
    equal((here.order(WORD), here.order(AMOUNT), here.order(MARK)), ([1], [1], [1]))
    # A condition that does not hold is told first.
    with refused("ConditionalCheckFailedException"):
        here.update(1, "SET word = :x", {":x": number(1)}, ConditionExpression="attribute_not_exists(word)")
    here.update(1, "SET word = :x", {":x": text("x" * 1024)})
    equal(here.item(1)["word"], text("x" * 1024))


@check
def batches_that_an_index_cannot_hold():
    here = Partition()
    good = {"PutRequest": {"Item": {**here.key(1), "word": text("a")}}}
    for word, why in [
        (number(1), "One or more parameter values were invalid: Type mismatch for Index Key word Expected: S Actual: N IndexName: by-word"),
        (text(""), EMPTY + "string value. IndexName: by-word, IndexKey: word"),
        (text("x" * 1025), TOO_LONG),
    ]:
        with refused("ValidationException", why):
            db.batch_write_item(RequestItems={indexed(): [good, {"PutRequest": {"Item": {**here.key(2), "word": word}}}]})
    assert here.item(1) is None and here.item(2) is None, "one wrong item refuses the batch"


@check
def numbers_are_one_however_they_are_spelled():
    here = Partition()
    here.put(1, amount=number("1.0"))
    here.put(2, amount=number("0.1E1"))
    here.put(3, amount=number("1." + "0" * 36 + "1"))
    equal(here.order(AMOUNT), [1, 2, 3])
    found = here.order(AMOUNT, KeyConditionExpression="pk = :pk AND amount = :a", ExpressionAttributeValues={":pk": here.pk, ":a": number("100E-2")})
    equal(found, [1, 2])


def cost(answer):
    """What a write cost: all of it, the table's part, and what each index's is."""
    consumed = answer["ConsumedCapacity"]
    equal(consumed["TableName"], indexed())
    indexes = {name: units["CapacityUnits"] for name, units in consumed.get("LocalSecondaryIndexes", {}).items()}
    equal(consumed["CapacityUnits"], consumed["Table"]["CapacityUnits"] + sum(indexes.values()))
    return consumed["CapacityUnits"], consumed["Table"]["CapacityUnits"], indexes


@check
def what_writing_costs():
    here, told = Partition(), {"ReturnConsumedCapacity": "INDEXES"}
    small = {"word": text("w"), "amount": number(1), "mark": {"B": b"m"}}
    # In no index; in all of them; the same again.
    equal(cost(here.put(1, fill=text("x" * 1500), **told)), (2.0, 2.0, {}))
    whole = {**small, "note": text("n" * 1200), "fill": text("x" * 1500)}
    equal(cost(here.put(1, **whole, **told)), (9.0, 3.0, {WORD: 1.0, AMOUNT: 2.0, MARK: 3.0}))
    equal(cost(here.put(1, **whole, **told)), (3.0, 3.0, {}))
    # What an index does not show costs it nothing.
    equal(cost(here.update(1, "SET fill = :f", {":f": text("y" * 1500)}, **told)), (6.0, 3.0, {MARK: 3.0}))
    equal(cost(here.update(1, "SET note = :n", {":n": text("n")}, **told)), (8.0, 3.0, {AMOUNT: 2.0, MARK: 3.0}))
    equal(cost(here.update(1, "SET note = :n", {":n": text("n" * 1200)}, **told)), (8.0, 3.0, {AMOUNT: 2.0, MARK: 3.0}))
    # Another place in an index is one entry that goes and one that comes.
    equal(cost(here.update(1, "SET word = :w", {":w": text("z")}, **told)), (8.0, 3.0, {WORD: 2.0, MARK: 3.0}))
    equal(cost(here.update(1, "SET amount = :a", {":a": number(2)}, **told)), (10.0, 3.0, {AMOUNT: 4.0, MARK: 3.0}))
    equal(cost(here.update(1, "SET mark = :m", {":m": {"B": b"z"}}, **told)), (9.0, 3.0, {MARK: 6.0}))
    equal(cost(here.update(1, "SET amount = :a", {":a": number("2.0")}, **told)), (3.0, 3.0, {}))
    # Out of an index, and into it again.
    equal(cost(here.update(1, "REMOVE word", **told)), (7.0, 3.0, {WORD: 1.0, MARK: 3.0}))
    equal(cost(here.update(1, "SET word = :w", {":w": text("w")}, **told)), (7.0, 3.0, {WORD: 1.0, MARK: 3.0}))
    equal(cost(here.delete(1, **told)), (9.0, 3.0, {WORD: 1.0, AMOUNT: 2.0, MARK: 3.0}))
    equal(cost(here.delete(1, **told)), (1.0, 1.0, {}))
    # Together only.
    equal(here.put(1, **whole, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"], {"TableName": indexed(), "CapacityUnits": 9.0})
    assert "ConsumedCapacity" not in here.put(1, **whole), "nobody asked"


@check
def what_is_returned_is_what_was_asked_for():
    here, told = Partition(), {"ReturnConsumedCapacity": "INDEXES"}
    item = {"word": text("a"), "amount": number(1)}
    for answer in [here.put(1, **item, **told), here.put(1, **item), here.update(1, "SET amount = :a", {":a": number(2)}, **told), here.update(1, "SET amount = :a", {":a": number(3)})]:
        assert "Attributes" not in answer, answer
    equal(here.put(1, **item, ReturnValues="ALL_OLD")["Attributes"], {**here.key(1), "word": text("a"), "amount": number(3)})
    moved = here.update(1, "SET word = :w", {":w": text("b")}, ReturnValues="UPDATED_NEW", **told)
    equal((moved["Attributes"], cost(moved)), ({"word": text("b")}, (3.0, 1.0, {WORD: 2.0})))
    equal(here.update(1, "SET word = :w", {":w": text("c")}, ReturnValues="UPDATED_OLD")["Attributes"], {"word": text("b")})
    equal(here.update(1, "SET word = :w", {":w": text("d")}, ReturnValues="ALL_NEW")["Attributes"], {**here.key(1), **item, "word": text("d")})
    equal(here.delete(1, ReturnValues="ALL_OLD", **told)["Attributes"], {**here.key(1), **item, "word": text("d")})


@check
def what_batches_cost():
    here, plain = Partition(), table(db)
    item = {"word": text("w"), "amount": number(1), "note": text("n" * 1500)}
    writes = {
        indexed(): [{"PutRequest": {"Item": {**here.key(1), **item}}}, {"PutRequest": {"Item": {**here.key(2), "word": text("x")}}}, {"PutRequest": {"Item": here.key(3)}}],
        plain: [{"PutRequest": {"Item": {"pk": {"S": fresh()}}}}],
    }

    def told(**more):
        costs = db.batch_write_item(RequestItems=writes, ReturnConsumedCapacity="INDEXES", **more)["ConsumedCapacity"]
        return {cost["TableName"]: cost for cost in costs}

    costs = told()
    equal(cost({"ConsumedCapacity": costs[indexed()]}), (8.0, 4.0, {WORD: 2.0, AMOUNT: 2.0}))
    equal((costs[plain]["CapacityUnits"], "LocalSecondaryIndexes" in costs[plain]), (1.0, False))
    # The same items once more change nothing in any index.
    equal(cost({"ConsumedCapacity": told()[indexed()]}), (4.0, 4.0, {}))
    writes = {indexed(): [{"DeleteRequest": {"Key": here.key(place)}} for place in (1, 2, 3)]}
    equal(cost({"ConsumedCapacity": told()[indexed()]}), (8.0, 4.0, {WORD: 2.0, AMOUNT: 2.0}))
    writes = {indexed(): [{"PutRequest": {"Item": {**here.key(1), **item}}}]}
    total = db.batch_write_item(RequestItems=writes, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]
    equal(total, [{"TableName": indexed(), "CapacityUnits": 5.0}])


@check
def item_collection_metrics():
    here, there, asked = Partition(), Partition(), {"ReturnItemCollectionMetrics": "SIZE"}
    wanted = {"ItemCollectionKey": {"pk": here.pk}, "SizeEstimateRangeGB": [0.0, 1.0]}
    equal(here.put(1, word=text("a"), **asked)["ItemCollectionMetrics"], wanted)
    equal(here.update(1, "SET word = :w", {":w": text("b")}, **asked)["ItemCollectionMetrics"], wanted)
    equal(here.delete(1, **asked)["ItemCollectionMetrics"], wanted)
    for answer in [here.put(1), here.put(1, ReturnItemCollectionMetrics="NONE")]:
        assert "ItemCollectionMetrics" not in answer, answer
    with refused("ValidationException", part="returnItemCollectionMetrics"):
        here.put(1, ReturnItemCollectionMetrics="SOME")
    plain = table(db)
    writes = {indexed(): [{"PutRequest": {"Item": one.key(1)}} for one in (here, there)], plain: [{"PutRequest": {"Item": {"pk": {"S": fresh()}}}}]}
    metrics = db.batch_write_item(RequestItems=writes, **asked)["ItemCollectionMetrics"]
    equal(set(metrics), {indexed()})
    told = sorted(metrics[indexed()], key=lambda metric: metric["ItemCollectionKey"]["pk"]["S"])
    equal(told, sorted([wanted, {**wanted, "ItemCollectionKey": {"pk": there.pk}}], key=lambda metric: metric["ItemCollectionKey"]["pk"]["S"]))
    assert "ItemCollectionMetrics" not in db.batch_write_item(RequestItems=writes)


@check
def items_whose_time_is_over_are_in_no_index():
    name = create(db, f"local_index_writes.ttl.{os.getpid()}", "S", "N", [("by-expires", "expires", "N", "KEYS_ONLY"), ("by-word", "word", "S", "ALL")])
    db.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires"})
    now = int(time.time())

    def put(place, expires):
        item = {"pk": {"S": "p"}, "sk": {"N": str(place)}, "word": {"S": "w"}, **({"expires": {"N": str(expires)}} if expires else {})}
        db.put_item(TableName=name, Item=item)

    def there(index):
        ask = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": "p"}}, "ConsistentRead": True}
        queried = [int(item["sk"]["N"]) for page in pages(db.query, TableName=name, IndexName=index, **ask) for item in page["Items"]]
        scanned = [int(item["sk"]["N"]) for page in pages(db.scan, TableName=name, IndexName=index, ConsistentRead=True) for item in page["Items"]]
        return queried if queried == scanned else (queried, scanned)

    put(1, now - 5)
    put(2, now + 3600)
    put(3, None)
    until("the item of the past is hidden", lambda: there("by-word") == [2, 3])
    equal(there("by-expires"), [2])
    # From now on such an item is hidden at once, in every index.
    for place in range(10, 40):
        put(place, now - place)
        equal((there("by-word"), there("by-expires")), ([2, 3], [2]))

    def expire(place, moment):
        expression, values = "SET expires = :t", {":t": {"N": str(moment)}}
        db.update_item(TableName=name, Key={"pk": {"S": "p"}, "sk": {"N": str(place)}}, UpdateExpression=expression, ExpressionAttributeValues=values)

    expire(2, now + 7200)
    expire(3, now + 60 * 60)
    equal((there("by-word"), there("by-expires")), ([2, 3], [3, 2]))
    expire(2, now - 1)
    equal((there("by-word"), there("by-expires")), ([3], [3]))

    def is_removed():
        indexes = db.describe_table(TableName=name)["Table"]["LocalSecondaryIndexes"]
        return {index["IndexName"]: index.get("ItemCount") for index in indexes} == {"by-expires": 1, "by-word": 1}

    # Servers that this is tried with look for such items every second: node.expiry_period.
    until("what is over is removed from the indexes, too", is_removed)


run()
