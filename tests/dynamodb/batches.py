"""BatchGetItem and BatchWriteItem."""

import json

from checks import check, client, equal, fresh, item_of, refused, run, table, until

db = client()


def put(item):
    return {"PutRequest": {"Item": item}}


def remove(key):
    return {"DeleteRequest": {"Key": key}}


def keys(count):
    prefix = fresh("batch")
    return [{"pk": {"S": f"{prefix}.{number}"}} for number in range(count)]


@check
def write_and_get():
    name, all_keys = table(db), keys(25)
    items = [{**key, "n": {"N": str(number)}} for number, key in enumerate(all_keys)]
    answer = db.batch_write_item(RequestItems={name: [put(item) for item in items]})
    equal(answer["UnprocessedItems"], {})
    asked = {name: {"Keys": [*all_keys, {"pk": {"S": fresh()}}], "ConsistentRead": True}}
    answer = db.batch_get_item(RequestItems=asked)
    equal(answer["UnprocessedKeys"], {})
    order = sorted(answer["Responses"][name], key=lambda item: int(item["n"]["N"]))
    equal(order, items)
    changes = [remove(all_keys[0]), put({**all_keys[1], "n": {"N": "100"}})]
    db.batch_write_item(RequestItems={name: changes})
    assert item_of(db, name, all_keys[0]) is None
    equal(item_of(db, name, all_keys[1])["n"], {"N": "100"})


@check
def several_tables():
    one, two = table(db), table(db, "N")
    pk = fresh()
    db.batch_write_item(RequestItems={one: [put({"pk": {"S": pk}})], two: [put({"pk": {"N": "1"}}), remove({"pk": {"N": "2"}})]})
    asked = {one: {"Keys": [{"pk": {"S": pk}}], "ConsistentRead": True}, two: {"Keys": [{"pk": {"N": "1.0"}}, {"pk": {"N": "2"}}], "ConsistentRead": True}}
    answer = db.batch_get_item(RequestItems=asked)["Responses"]
    equal((answer[one], answer[two]), ([{"pk": {"S": pk}}], [{"pk": {"N": "1"}}]))


@check
def projection_and_names():
    name, (key,) = table(db), keys(1)
    db.put_item(TableName=name, Item={**key, "a": {"S": "a"}, "b": {"S": "b"}})
    asked = {"Keys": [key], "ProjectionExpression": "#a", "ExpressionAttributeNames": {"#a": "a"}, "ConsistentRead": True}
    equal(db.batch_get_item(RequestItems={name: asked})["Responses"][name], [{"a": {"S": "a"}}])
    asked = {"Keys": [key], "AttributesToGet": ["b"], "ConsistentRead": True}
    equal(db.batch_get_item(RequestItems={name: asked})["Responses"][name], [{"b": {"S": "b"}}])


@check
def what_is_not_taken_stays_unprocessed():
    name, all_keys = table(db), keys(60)
    for start in range(0, 60, 20):
        items = [put({**key, "fill": {"S": "x" * 350_000}}) for key in all_keys[start : start + 20]]
        equal(db.batch_write_item(RequestItems={name: items})["UnprocessedItems"], {})
    seen, asked = [], {name: {"Keys": all_keys, "ProjectionExpression": "pk", "ConsistentRead": True}}
    rounds = 0
    while asked:
        answer = db.batch_get_item(RequestItems=asked)
        seen += [item["pk"]["S"] for item in answer["Responses"].get(name, [])]
        asked, rounds = answer["UnprocessedKeys"], rounds + 1
        assert rounds < 60, "it goes on for ever"
        if asked:
            equal((asked[name]["ProjectionExpression"], asked[name]["ConsistentRead"]), ("pk", True))
    equal(sorted(seen), sorted(key["pk"]["S"] for key in all_keys))
    assert rounds > 1, "60 items of 350 KB are more than the 16 MB that an answer may have"


@check
def limits():
    name = table(db)
    with refused("ValidationException", part="Member must have length less than or equal to 100"):
        db.batch_get_item(RequestItems={name: {"Keys": keys(101)}})
    with refused("ValidationException", "Too many items requested for the BatchGetItem call"):
        one, two = table(db), table(db, "N")
        db.batch_get_item(RequestItems={one: {"Keys": keys(60)}, two: {"Keys": [{"pk": {"N": str(number)}} for number in range(41)]}})
    with refused("ValidationException", part="Too many items requested for the BatchWriteItem call"):
        one, two = table(db), table(db, "N")
        db.batch_write_item(RequestItems={one: [put(key) for key in keys(20)], two: [put({"pk": {"N": str(number)}}) for number in range(6)]})
    with refused("ValidationException"):
        db.batch_write_item(RequestItems={name: [put(key) for key in keys(26)]})
    with refused("ValidationException"):
        db.batch_write_item(RequestItems={})
    with refused("ValidationException"):
        db.batch_get_item(RequestItems={name: {"Keys": []}})


def of_bytes(name, all_keys, count):
    """Puts of these keys, whose request has so many bytes. An item is less than 400 KB and takes more room in JSON than that: boto3 sends what
    is no ASCII as an escape of six bytes, of which two are stored."""
    items = [{**key, "fill": {"S": "é" * 80_000}} for key in all_keys]
    writes = {"RequestItems": {name: [put(item) for item in items]}}
    spare, rest = divmod(count - len(json.dumps(writes)), len(items))
    for number, item in enumerate(items):
        item["fill"]["S"] += "x" * (spare + (rest if number == 0 else 0))
    equal(len(json.dumps(writes)), count)
    return writes


@check
def sixteen_megabytes():
    name, largest = table(db), 16 * 1024 * 1024
    fits, exceeds = keys(25), keys(25)
    left = of_bytes(name, fits, largest - 100)["RequestItems"]

    def is_written():
        nonlocal left
        left = db.batch_write_item(RequestItems=left)["UnprocessedItems"]
        return not left

    until("all of it is written", is_written)
    with refused("RequestEntityTooLargeException"):
        db.batch_write_item(**of_bytes(name, exceeds, largest + 100))
    for key in [fits[0], fits[24]]:
        assert item_of(db, name, key)["fill"]["S"].startswith("éé")
    for key in [exceeds[0], exceeds[24]]:
        equal(item_of(db, name, key), None)


@check
def a_key_twice():
    name, (key,) = table(db), keys(1)
    with refused("ValidationException", "Provided list of item keys contains duplicates"):
        db.batch_get_item(RequestItems={name: {"Keys": [key, key]}})
    with refused("ValidationException", "Provided list of item keys contains duplicates"):
        db.batch_write_item(RequestItems={name: [put(key), remove(key)]})
    assert item_of(db, name, key) is None, "nothing of a refused batch is done"


@check
def one_wrong_item_refuses_the_batch():
    name, (good,) = table(db), keys(1)
    with refused("ValidationException", part="Missing the key pk in the item"):
        db.batch_write_item(RequestItems={name: [put(good), put({"a": {"S": "x"}})]})
    with refused("ValidationException", part="Item size has exceeded the maximum allowed size"):
        db.batch_write_item(RequestItems={name: [put(good), put({"pk": {"S": fresh()}, "a": {"S": "x" * 409_600}})]})
    with refused("ValidationException", part="The provided key element does not match the schema"):
        db.batch_get_item(RequestItems={name: {"Keys": [good, {"pk": {"N": "1"}}]}})
    with refused("ResourceNotFoundException"):
        db.batch_write_item(RequestItems={name: [put(good)], "nowhere": [put(good)]})
    with refused("ValidationException"):
        db.batch_write_item(RequestItems={name: [{**put(good), **remove(good)}]})
    assert item_of(db, name, good) is None


@check
def consumed_capacity():
    one, two = table(db), table(db, "N")
    writes = {one: [put(key) for key in keys(3)], two: [put({"pk": {"N": "9"}})]}
    costs = db.batch_write_item(RequestItems=writes, ReturnConsumedCapacity="TOTAL", ReturnItemCollectionMetrics="SIZE")["ConsumedCapacity"]
    equal({cost["TableName"]: cost["CapacityUnits"] for cost in costs}, {one: 3.0, two: 1.0})
    reads = {two: {"Keys": [{"pk": {"N": "9"}}], "ConsistentRead": True}}
    costs = db.batch_get_item(RequestItems=reads, ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    equal([(cost["TableName"], cost["CapacityUnits"]) for cost in costs], [(two, 1.0)])


run()
