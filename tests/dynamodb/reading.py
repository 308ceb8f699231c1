"""Query and Scan: key conditions, filters, projection, Select, order, pages, segments, and what they cost."""

from checks import check, client, equal, fresh, numbers, pages, refused, run, table

db = client()
_filled = {}


def filled():
    """A partition with twenty items, sk 1 to 20; every fifth has the attribute x."""
    if not _filled:
        name, pk = table(db, "S", "N"), fresh()
        for number in range(1, 21):
            item = {"pk": {"S": pk}, "sk": {"N": str(number)}, "word": {"S": "even" if number % 2 == 0 else "odd"}}
            if number % 5 == 0:
                item["x"] = {"M": {"deep": {"N": str(number)}}}
            db.put_item(TableName=name, Item=item)
        _filled.update(name=name, pk=pk)
    return _filled["name"], _filled["pk"]


def query(condition="pk = :pk", values=None, **more):
    """All items that a query gives, over all pages."""
    name, pk = filled()
    every = {":pk": {"S": pk}, **(values or {})}
    items = []
    for page in pages(db.query, TableName=name, KeyConditionExpression=condition, ExpressionAttributeValues=every, ConsistentRead=True, **more):
        items += page["Items"]
    return items


def sorts(items):
    return [int(item["sk"]["N"]) for item in items]


@check
def key_conditions():
    n = {f":{number}": {"N": str(number)} for number in range(1, 21)}

    def found(condition, *used):
        return sorts(query(f"pk = :pk AND {condition}", {f":{number}": n[f":{number}"] for number in used}))

    equal(sorts(query()), list(range(1, 21)))
    equal(found("sk = :7", 7), [7])
    equal(found("sk < :3", 3), [1, 2])
    equal(found("sk <= :3", 3), [1, 2, 3])
    equal(found("sk > :18", 18), [19, 20])
    equal(found("sk >= :18", 18), [18, 19, 20])
    equal(found("sk BETWEEN :9 AND :11", 9, 11), [9, 10, 11])
    equal(sorts(query("sk = :7 AND pk = :pk", {":7": {"N": "7"}})), [7])
    equal(sorts(query("(pk = :pk) AND (sk = :7)", {":7": {"N": "7"}})), [7])
    equal(sorts(query("#p = :pk", ExpressionAttributeNames={"#p": "pk"})), list(range(1, 21)))
    name, _ = filled()
    nobody = {":pk": {"S": fresh()}}
    equal(db.query(TableName=name, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=nobody)["Items"], [])


@check
def begins_with_and_order_of_strings_and_bytes():
    name, pk = table(db, "S", "S"), fresh()
    words = ["", "a", "ab", "abc", "abd", "b", "é", "😀"][1:]
    for word in words:
        db.put_item(TableName=name, Item={"pk": {"S": pk}, "sk": {"S": word}})

    def found(condition, **values):
        values = {f":{name}": {"S": value} for name, value in values.items()}
        page = db.query(TableName=name, KeyConditionExpression=f"pk = :pk{condition}", ExpressionAttributeValues={":pk": {"S": pk}, **values}, ConsistentRead=True)
        return [item["sk"]["S"] for item in page["Items"]]

    equal(found(""), sorted(words, key=lambda word: word.encode()))
    equal(found(" AND begins_with(sk, :w)", w="ab"), ["ab", "abc", "abd"])
    equal(found(" AND begins_with(sk, :w)", w="zz"), [])
    name = table(db, "S", "B")
    for byte in [b"\x00", b"\x7f", b"\x80", b"\xff\x00"]:
        db.put_item(TableName=name, Item={"pk": {"S": pk}, "sk": {"B": byte}})
    page = db.query(TableName=name, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}}, ConsistentRead=True)
    equal([item["sk"]["B"] for item in page["Items"]], [b"\x00", b"\x7f", b"\x80", b"\xff\x00"])


@check
def numbers_sort_as_numbers():
    name, pk = table(db, "S", "N"), fresh()
    all_numbers = ["-1E+125", "-10", "-9.5", "-0.001", "0", "1E-130", "0.5", "2", "10", "9.99E+125"]
    for number in reversed(all_numbers):
        db.put_item(TableName=name, Item={"pk": {"S": pk}, "sk": {"N": number}})
    page = db.query(TableName=name, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}}, ConsistentRead=True)
    equal([float(item["sk"]["N"]) for item in page["Items"]], [float(number) for number in all_numbers])


@check
def backwards():
    equal(sorts(query(ScanIndexForward=False)), list(range(20, 0, -1)))
    equal(sorts(query(ScanIndexForward=False, Limit=3)), list(range(20, 0, -1)))


@check
def limits_and_pages():
    name, pk = filled()
    ask = {"TableName": name, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}, "ConsistentRead": True}
    first = db.query(**ask, Limit=3)
    equal((sorts(first["Items"]), first["Count"], first["ScannedCount"]), ([1, 2, 3], 3, 3))
    equal(first["LastEvaluatedKey"], {"pk": {"S": pk}, "sk": {"N": "3"}})
    second = db.query(**ask, Limit=3, ExclusiveStartKey=first["LastEvaluatedKey"])
    equal(sorts(second["Items"]), [4, 5, 6])
    # A start key need not be one of an item.
    equal(sorts(db.query(**ask, ExclusiveStartKey={"pk": {"S": pk}, "sk": {"N": "17.5"}})["Items"]), [18, 19, 20])
    assert "LastEvaluatedKey" not in db.query(**ask, Limit=21)
    for wrong in [{"pk": {"S": pk}}, {"pk": {"S": pk}, "sk": {"S": "x"}}, {"pk": {"S": pk}, "sk": {"N": "1"}, "z": {"S": "x"}}]:
        with refused("ValidationException", part="starting key is"):
            db.query(**ask, ExclusiveStartKey=wrong)
    with refused("ValidationException", part="starting key is"):
        db.query(**ask, ExclusiveStartKey={"pk": {"S": "another"}, "sk": {"N": "1"}})
    with refused("ValidationException", part="1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1"):
        db.query(**ask, Limit=0)


@check
def a_page_ends_at_a_megabyte():
    name, pk = table(db, "S", "N"), fresh()
    for number in range(12):
        db.put_item(TableName=name, Item={"pk": {"S": pk}, "sk": {"N": str(number)}, "fill": {"S": "x" * 200_000}})
    ask = {"TableName": name, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}, "ConsistentRead": True}
    first = db.query(**ask)
    assert 5 <= first["Count"] <= 6 and "LastEvaluatedKey" in first, first["Count"]
    # What counts is what was read, not what is returned.
    counted = db.query(**ask, Select="COUNT")
    equal((counted["Count"], counted["LastEvaluatedKey"]), (first["Count"], first["LastEvaluatedKey"]))
    assert "Items" not in counted
    small = db.query(**ask, ProjectionExpression="sk", FilterExpression="attribute_not_exists(fill)")
    equal((small["Count"], small["ScannedCount"], small["LastEvaluatedKey"]), (0, first["Count"], first["LastEvaluatedKey"]))
    equal(sum(page["Count"] for page in pages(db.query, **ask)), 12)


@check
def filters():
    equal(sorts(query(FilterExpression="word = :w", values={":w": {"S": "even"}})), list(range(2, 21, 2)))
    name, pk = filled()
    values = {":pk": {"S": pk}, ":n": {"N": "10"}}
    page = db.query(TableName=name, KeyConditionExpression="pk = :pk", FilterExpression="x.deep >= :n", ExpressionAttributeValues=values, Limit=12, ConsistentRead=True)
    equal((sorts(page["Items"]), page["Count"], page["ScannedCount"]), ([10], 1, 12))
    equal(page["LastEvaluatedKey"]["sk"], {"N": "12"})
    equal(sorts(query(FilterExpression="attribute_exists(x) AND NOT x.deep = :n", values={":n": {"N": "10"}})), [5, 15, 20])
    with refused("ValidationException", "Filter Expression can only contain non-primary key attributes: Primary key attribute: sk"):
        query(FilterExpression="sk > :n", values={":n": {"N": "1"}})


@check
def projection():
    equal(query("pk = :pk AND sk = :n", {":n": {"N": "5"}}, ProjectionExpression="sk, x.deep"), [{"sk": {"N": "5"}, "x": {"M": {"deep": {"N": "5"}}}}])
    equal(query("pk = :pk AND sk = :n", {":n": {"N": "4"}}, ProjectionExpression="#w", ExpressionAttributeNames={"#w": "word"}), [{"word": {"S": "even"}}])


@check
def select():
    name, pk = filled()
    ask = {"TableName": name, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}, "ConsistentRead": True}
    page = db.query(**ask, Select="COUNT")
    equal((page["Count"], page["ScannedCount"], "Items" in page), (20, 20, False))
    equal(db.query(**ask, Select="ALL_ATTRIBUTES")["Count"], 20)
    equal(db.query(**ask, Select="SPECIFIC_ATTRIBUTES", ProjectionExpression="sk")["Items"][0], {"sk": {"N": "1"}})
    for wrong in [
        {"Select": "ALL_PROJECTED_ATTRIBUTES"},
        {"Select": "SPECIFIC_ATTRIBUTES"},
        {"Select": "ALL_ATTRIBUTES", "ProjectionExpression": "sk"},
        {"Select": "COUNT", "ProjectionExpression": "sk"},
        {"Select": "NONSENSE"},
    ]:
        with refused("ValidationException"):
            db.query(**ask, **wrong)


@check
def what_a_query_refuses():
    name, pk = filled()
    values = {":pk": {"S": pk}, ":n": {"N": "1"}}
    with refused("ValidationException", "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request."):
        db.query(TableName=name)
    for condition, text in [
        ("sk = :n", "Query condition missed key schema element: pk"),
        ("pk = :pk AND other = :n", None),
        ("pk > :pk AND sk = :n", "Query key condition not supported"),
        ("pk = :pk OR sk = :n", None),
        ("pk = :pk AND sk <> :n", None),
        ("pk = :pk AND contains(sk, :n)", None),
        ("pk = :n", None),
    ]:
        with refused("ValidationException", text):
            used = {placeholder: value for placeholder, value in values.items() if placeholder in condition}
            db.query(TableName=name, KeyConditionExpression=condition, ExpressionAttributeValues=used)
    with refused("ValidationException", part="does not have the specified index"):
        db.query(TableName=name, IndexName="nothing", KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}})


@check
def scan():
    name = table(db, "N")
    for number in range(60):
        db.put_item(TableName=name, Item={"pk": {"N": str(number)}, "third": {"BOOL": number % 3 == 0}})

    def found(**more):
        return sorted(int(item["pk"]["N"]) for page in pages(db.scan, TableName=name, ConsistentRead=True, **more) for item in page["Items"])

    equal(found(), list(range(60)))
    equal(found(Limit=7), list(range(60)))
    yes = {":t": {"BOOL": True}}
    equal(found(FilterExpression="third = :t", ExpressionAttributeValues=yes), list(range(0, 60, 3)))
    equal(found(FilterExpression="pk < :n", ExpressionAttributeValues={":n": {"N": "5"}}), list(range(5)))
    equal(found(ProjectionExpression="pk"), list(range(60)))
    equal(sum(page["Count"] for page in pages(db.scan, TableName=name, Select="COUNT", ConsistentRead=True)), 60)


@check
def segments():
    name = table(db, "S")
    expected = {fresh("segment") for _ in range(40)}
    for pk in expected:
        db.put_item(TableName=name, Item={"pk": {"S": pk}})
    for total in [1, 2, 3, 7, 64]:
        seen = []
        for segment in range(total):
            for page in pages(db.scan, TableName=name, TotalSegments=total, Segment=segment, Limit=5, ConsistentRead=True):
                seen += [item["pk"]["S"] for item in page["Items"]]
        equal(len(seen), len(set(seen)))
        assert expected <= set(seen), f"{expected - set(seen)} are in none of {total} segments"
    told = "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: 4 is not less than TotalSegments: 4"
    with refused("ValidationException", told):
        db.scan(TableName=name, Segment=4, TotalSegments=4)
    with refused("ValidationException", "The TotalSegments parameter is required but was not present in the request when Segment parameter is present"):
        db.scan(TableName=name, Segment=0)
    with refused("ValidationException", "The Segment parameter is required but was not present in the request when parameter TotalSegments is present"):
        db.scan(TableName=name, TotalSegments=4)
    with refused("ValidationException", part="totalSegments"):
        db.scan(TableName=name, Segment=0, TotalSegments=1_000_001)


@check
def paginators():
    name, pk = filled()
    ask = {"TableName": name, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}, "ConsistentRead": True}
    found = list(db.get_paginator("query").paginate(**ask, PaginationConfig={"PageSize": 6}))
    equal([page["Count"] for page in found][:3], [6, 6, 6])
    equal(sorts(found.pop(0)["Items"]), [1, 2, 3, 4, 5, 6])
    total = sum(page["Count"] for page in db.get_paginator("scan").paginate(TableName=name, ConsistentRead=True, PaginationConfig={"PageSize": 9}))
    assert total >= 20, total


@check
def consumed_capacity():
    name, pk = filled()
    ask = {"TableName": name, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}}
    # What is not there yet at the replica that is asked costs as little.
    eventual = db.query(**ask, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]
    equal((eventual["TableName"], eventual["CapacityUnits"]), (name, 0.5))
    strong = db.query(**ask, ConsistentRead=True, ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    equal((strong["CapacityUnits"], strong["Table"]["CapacityUnits"]), (1.0, 1.0))
    assert db.scan(TableName=name, Limit=1, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]["CapacityUnits"] >= 0.5


@check
def deleted_items_are_not_read():
    name, pk = table(db, "S", "N"), fresh()
    for number in range(6):
        db.put_item(TableName=name, Item={"pk": {"S": pk}, "sk": {"N": str(number)}})
    for number in numbers(0, 3, 5):
        db.delete_item(TableName=name, Key={"pk": {"S": pk}, "sk": number})
    page = db.query(TableName=name, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}}, ConsistentRead=True)
    equal(sorts(page["Items"]), [1, 2, 4])


run()
