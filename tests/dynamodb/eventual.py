"""ConsistentRead, operation by operation: a strong read has what was written before it, an eventual one has it in the end, and costs half."""

import os

from checks import check, client, create, equal, fresh, run, until

db = client()
FILL = {"S": "x" * 3000}
_name = []


def name():
    """The table of this script, of which nobody else scans anything."""
    if not _name:
        _name.append(create(db, f"eventual.{os.getpid()}", "S", "N", [("by-word", "word", "S", "ALL")]))
    return _name[0]


def written(count):
    """Items under a partition key of their own, in the order of their sort keys, just written; 3 KB each and a bit."""
    pk = {"S": fresh()}
    items = [{"pk": pk, "sk": {"N": str(number)}, "word": {"S": f"w{number}"}, "fill": FILL} for number in range(count)]
    for item in items:
        db.put_item(TableName=name(), Item=item)
    return items


def key(item):
    return {"pk": item["pk"], "sk": item["sk"]}


def in_order(items):
    return sorted(items, key=lambda item: (item["pk"]["S"], int(item["sk"]["N"])))


def tried(read, items, units):
    """Reads strongly, eventually, and as it is done where nothing is said, which is eventually. `read` takes ConsistentRead, and gives the
    items and what they cost."""
    found, cost = read(ConsistentRead=True)
    equal((in_order(found), cost), (items, units))
    for how in [{"ConsistentRead": False}, {}]:

        def has_them():
            found, cost = read(**how)
            return (in_order(found), cost) == (items, units / 2)

        until(f"an eventual read has what was written, for {units / 2} units", has_them)


@check
def get_item():
    (item,) = written(1)

    def read(**how):
        answer = db.get_item(TableName=name(), Key=key(item), ReturnConsumedCapacity="TOTAL", **how)
        return [answer["Item"]] if "Item" in answer else [], answer["ConsumedCapacity"]["CapacityUnits"]

    tried(read, [item], 1.0)
    db.update_item(TableName=name(), Key=key(item), UpdateExpression="SET more = :m", ExpressionAttributeValues={":m": {"S": "y" * 9000}})
    tried(read, [{**item, "more": {"S": "y" * 9000}}], 3.0)


@check
def batch_get_item():
    items = written(3)

    def read(**how):
        asked = {"Keys": [key(item) for item in items], **how}
        answer = db.batch_get_item(RequestItems={name(): asked}, ReturnConsumedCapacity="TOTAL")
        equal(answer["UnprocessedKeys"], {})
        return answer["Responses"][name()], answer["ConsumedCapacity"][0]["CapacityUnits"]

    # Each item is rounded up for itself.
    tried(read, items, 3.0)


@check
def query():
    items = written(3)
    ask = {"TableName": name(), "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": items[0]["pk"]}}

    def read(**how):
        answer = db.query(**ask, ReturnConsumedCapacity="TOTAL", **how)
        return answer["Items"], answer["ConsumedCapacity"]["CapacityUnits"]

    # The whole page is rounded up.
    tried(read, items, 3.0)
    tried(lambda **how: read(IndexName="by-word", **how), items, 3.0)
    tried(lambda **how: read(Limit=1, **how), items[:1], 1.0)


@check
def scan():
    items = in_order(written(3) + written(2))
    mine = {"FilterExpression": "pk IN (:a, :b)", "ExpressionAttributeValues": {":a": items[0]["pk"], ":b": items[-1]["pk"]}}

    def read(**how):
        answer = db.scan(TableName=name(), ReturnConsumedCapacity="TOTAL", **mine, **how)
        assert "LastEvaluatedKey" not in answer, "a page has room for all of it"
        return answer["Items"], answer["ConsumedCapacity"]["CapacityUnits"]

    for more in [{}, {"IndexName": "by-word"}]:
        # What the other checks wrote is read, too, and passed over.
        _, units = read(ConsistentRead=True, **more)
        assert units >= 4.0, units
        tried(lambda **how: read(**more, **how), items, units)


run()
