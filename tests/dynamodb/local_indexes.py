"""Local secondary indexes as they are read: Query and Scan on each kind of them, against a model that is a list of items and a sort.

The table has indexes of all three types and all three projections, and two over one attribute. Items are put in without any
order, some of them without an attribute, many with equal ones. dStore puts equal ones in the order of the table's sort key; AWS
promises no order there, and otherwise all that is expected here is AWS's.
"""

import os
import random
from decimal import Decimal

from checks import check, client, create, equal, fresh, pages, refused, run, table, until

db = client()
KEYS_ONLY, INCLUDE, ALL, AGAIN = "by-word", "by-amount", "by-mark", "by-word-again"
INDEXES = [(KEYS_ONLY, "word", "S", "KEYS_ONLY"), (INCLUDE, "amount", "N", ["note", "absent"]), (ALL, "mark", "B", "ALL"), (AGAIN, "word", "S", ["note"])]
ATTRIBUTES = {name: (attribute, kind) for name, attribute, kind, _ in INDEXES}
WORDS = ["a", "ab", "abc", "abd", "b", "B", "é", "😀", "a\0", "a\0b", "a\x01", "\0", "\U0010ffff"]
AMOUNTS = ["-1E+125", "-10", "-9.5", "-0.001", "0", "1E-130", "0.5", "2", "10", "9.99E+125"]
MARKS = [b"\x00", b"\x00\x00", b"\x00\x01", b"\x00\xff", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\x00", b"\xff\xff", b"\x00\x01\x00"]
VALUES = {"word": WORDS, "amount": AMOUNTS, "mark": MARKS}
_filled = {}


def filled():
    """The table, a partition of 60 items, and the items; a second partition has a key that begins with the first one's."""
    if not _filled:
        name, pk = create(db, f"local_indexes.{os.getpid()}", "S", "N", INDEXES), fresh()
        items = []
        for number in range(60):
            item = {"pk": {"S": pk}, "sk": {"N": str(number)}, "note": {"S": f"note {number}"}, "heavy": {"L": [{"N": str(number)}, {"S": "x" * 50}]}}
            for attribute, every, missing in [("word", 4, 3), ("amount", 3, 1), ("mark", 5, 0)]:
                if number % every != missing:
                    (kind,) = {kind for other, kind in ATTRIBUTES.values() if other == attribute}
                    item[attribute] = {kind: VALUES[attribute][number * 7 % len(VALUES[attribute])]}
            items.append(item)
        for item in random.Random(1).sample(items, len(items)):
            db.put_item(TableName=name, Item=item)
        for number in range(5):
            other = {"pk": {"S": pk + "x"}, "sk": {"N": str(number)}, "word": {"S": "ab"}, "amount": {"N": "2"}, "mark": {"B": b"\x01"}}
            db.put_item(TableName=name, Item=other)
        _filled.update(name=name, pk=pk, items=items)
    return _filled["name"], _filled["pk"], _filled["items"]


def ordered(value):
    """An attribute value as something that Python orders as DynamoDB does."""
    ((kind, content),) = value.items()
    return {"N": lambda: Decimal(content), "S": lambda: content.encode() if isinstance(content, str) else content, "B": lambda: bytes(content)}[kind]()


def expected(index, holds=lambda value: True, forward=True):
    """The items that an index has, where the condition on its attribute holds, in its order."""
    attribute, _ = ATTRIBUTES[index]
    there = [item for item in filled()[2] if attribute in item and holds(ordered(item[attribute]))]
    there.sort(key=lambda item: (ordered(item[attribute]), int(item["sk"]["N"])))
    return there if forward else there[::-1]


def asked(index, condition="", values=None, **more):
    """The parameters of a query of the first partition by an index; `#a` is the index's attribute."""
    name, pk, _ = filled()
    parameters = {
        "TableName": name,
        "IndexName": index,
        "KeyConditionExpression": f"pk = :pk{condition}",
        "ExpressionAttributeValues": {":pk": {"S": pk}, **(values or {})},
        "ConsistentRead": True,
        **more,
    }
    if "#a" in condition + more.get("FilterExpression", ""):
        parameters["ExpressionAttributeNames"] = {"#a": ATTRIBUTES[index][0]}
    return parameters


def query(index, condition="", values=None, **more):
    """All items that such a query gives, over all pages."""
    return [item for page in pages(db.query, **asked(index, condition, values, **more)) for item in page["Items"]]


def sorts(items):
    return [int(item["sk"]["N"]) for item in items]


@check
def all_items_with_the_attribute_in_its_order():
    for index in ATTRIBUTES:
        equal(sorts(query(index)), sorts(expected(index)))
        equal(sorts(query(index, ScanIndexForward=False)), sorts(expected(index, forward=False)))
        assert len(expected(index)) < 60, "some items have no such attribute"
    name, _, _ = filled()
    nobody = {":pk": {"S": fresh()}}
    equal(db.query(TableName=name, IndexName=ALL, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=nobody)["Items"], [])


@check
def every_key_condition():
    operators = {
        "=": lambda pivot: lambda value: value == pivot,
        "<": lambda pivot: lambda value: value < pivot,
        "<=": lambda pivot: lambda value: value <= pivot,
        ">": lambda pivot: lambda value: value > pivot,
        ">=": lambda pivot: lambda value: value >= pivot,
    }
    beyond = {"word": ["aa", "zz"], "amount": ["-3", "7.25"], "mark": [b"\x00\x02", b"\x90"]}
    forward = True
    for index in [KEYS_ONLY, INCLUDE, ALL]:
        attribute, kind = ATTRIBUTES[index]
        for content in VALUES[attribute] + beyond[attribute]:
            pivot = ordered({kind: content})
            for operator, holds in operators.items():
                forward = not forward
                found = query(index, f" AND #a {operator} :x", {":x": {kind: content}}, ScanIndexForward=forward)
                equal((operator, content, sorts(found)), (operator, content, sorts(expected(index, holds(pivot), forward))))


@check
def between():
    for index in [KEYS_ONLY, INCLUDE, ALL]:
        attribute, kind = ATTRIBUTES[index]
        every = sorted(VALUES[attribute], key=lambda content: ordered({kind: content}))
        for low in range(0, len(every), 2):
            for high in range(low, len(every), 3):
                values = {":l": {kind: every[low]}, ":h": {kind: every[high]}}
                bounds = ordered(values[":l"]), ordered(values[":h"])
                wanted = expected(index, lambda value, bounds=bounds: bounds[0] <= value <= bounds[1], high % 2 == 0)
                equal(sorts(query(index, " AND #a BETWEEN :l AND :h", values, ScanIndexForward=high % 2 == 0)), sorts(wanted))


@check
def begins_with():
    for index, prefixes in [(KEYS_ONLY, ["a", "ab", "a\0", "\0", "zz", "😀", "\U0010ffff"]), (ALL, [b"\x00", b"\x00\x01", b"\xff", b"\xff\xff", b"\x02"])]:
        _, kind = ATTRIBUTES[index]
        for prefix in prefixes:
            start = ordered({kind: prefix})
            for forward in [True, False]:
                found = query(index, " AND begins_with(#a, :x)", {":x": {kind: prefix}}, ScanIndexForward=forward)
                wanted = expected(index, lambda value, start=start: value.startswith(start), forward)
                equal((prefix, sorts(found)), (prefix, sorts(wanted)))
    with refused("ValidationException"):
        query(INCLUDE, " AND begins_with(#a, :x)", {":x": {"N": "1"}})


@check
def pages_to_the_end():
    for index in ATTRIBUTES:
        attribute, _ = ATTRIBUTES[index]
        for limit in [1, 3, 7, 100]:
            for forward in [True, False]:
                found = []
                for page in pages(db.query, **asked(index, Limit=limit, ScanIndexForward=forward)):
                    equal(page["Count"], page["ScannedCount"])
                    assert page["Count"] <= limit, f"{page['Count']} items on a page of {limit}"
                    found += page["Items"]
                    if "LastEvaluatedKey" in page:
                        last = found[-1]
                        equal(page["LastEvaluatedKey"], {name: last[name] for name in ("pk", "sk", attribute)})
                equal(sorts(found), sorts(expected(index, forward=forward)))


@check
def pages_within_conditions():
    attribute, kind = ATTRIBUTES[ALL]
    assert attribute == "mark", attribute
    for forward in [True, False]:
        wanted = expected(ALL, lambda value: b"\x00\x01" <= value <= b"\xff", forward)
        values = {":l": {kind: b"\x00\x01"}, ":h": {kind: b"\xff"}}
        found = query(ALL, " AND #a BETWEEN :l AND :h", values, Limit=2, ScanIndexForward=forward)
        equal(sorts(found), sorts(wanted))
        # Many items have this one value: a page may end amid them.
        equal(sorts(query(ALL, " AND #a = :l", values={":l": {kind: b"\x00"}}, Limit=1, ScanIndexForward=forward)), sorts(expected(ALL, lambda value: value == b"\x00", forward)))


@check
def a_start_key_need_not_be_one_of_an_item():
    _, pk, _ = filled()
    start = {"pk": {"S": pk}, "sk": {"N": "1000"}, "amount": {"N": "1"}}
    equal(sorts(query(INCLUDE, ExclusiveStartKey=start)), sorts(expected(INCLUDE, lambda value: value > 1)))
    equal(sorts(query(INCLUDE, ExclusiveStartKey=start, ScanIndexForward=False)), sorts(expected(INCLUDE, lambda value: value <= 1, False)))


@check
def a_page_ends_at_a_megabyte():
    name, _, _ = filled()
    pk = fresh("large")
    for number in range(12):
        item = {"pk": {"S": pk}, "sk": {"N": str(number)}, "word": {"S": str(99 - number)}, "mark": {"B": bytes([99 - number])}, "fill": {"S": "x" * 200_000}}
        db.put_item(TableName=name, Item=item)
    ask = {"TableName": name, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}, "ConsistentRead": True}
    first = db.query(**ask, IndexName=ALL)
    assert 5 <= first["Count"] <= 6 and first["LastEvaluatedKey"]["mark"] == first["Items"][-1]["mark"], first["Count"]
    # An index that shows little has more on a page, but what is fetched counts as it is.
    equal(db.query(**ask, IndexName=KEYS_ONLY)["Count"], 12)
    for index in [ALL, KEYS_ONLY]:
        for more in [{}, {"Select": "ALL_ATTRIBUTES"}, {"ProjectionExpression": "sk, fill"}]:
            found = list(pages(db.query, **ask, IndexName=index, **more))
            equal(sorts([item for page in found for item in page["Items"]]), list(range(11, -1, -1)))
            assert all(sum("fill" in item for item in page["Items"]) <= 6 for page in found), "an answer is larger than a megabyte"
    for number in range(12):
        db.delete_item(TableName=name, Key={"pk": {"S": pk}, "sk": {"N": str(number)}})


@check
def default_projections():
    shown = {KEYS_ONLY: {"word"}, INCLUDE: {"amount", "note"}, AGAIN: {"word", "note"}}
    for index in ATTRIBUTES:
        wanted = expected(index)
        for more in [{}, {"Select": "ALL_PROJECTED_ATTRIBUTES"}]:
            found = query(index, **more)
            equal(sorts(found), sorts(wanted))
            for item, whole in zip(found, wanted):
                names = shown.get(index, set(whole)) | {"pk", "sk"}
                equal({name: item[name] for name in sorted(item) if name != "amount"}, {name: whole[name] for name in sorted(names & set(whole)) if name != "amount"})
                equal("amount" in item, "amount" in names & set(whole))


@check
def projections_that_are_asked_for():
    whole = expected(KEYS_ONLY)[0]
    first = {"Limit": 1}
    equal(db.query(**asked(KEYS_ONLY, ProjectionExpression="sk, word", **first))["Items"], [{name: whole[name] for name in ("sk", "word")}])
    # What the index does not show is fetched from the table.
    equal(db.query(**asked(KEYS_ONLY, ProjectionExpression="note", **first))["Items"], [{"note": whole["note"]}])
    equal(db.query(**asked(KEYS_ONLY, ProjectionExpression="sk, heavy[0]", **first))["Items"], [{"sk": whole["sk"], "heavy": {"L": whole["heavy"]["L"][:1]}}])
    equal(db.query(**asked(KEYS_ONLY, ProjectionExpression="nothing", **first))["Items"], [{}])
    equal(db.query(**asked(INCLUDE, ProjectionExpression="note", **first))["Items"], [{"note": expected(INCLUDE)[0]["note"]}])


@check
def select():
    for index in [KEYS_ONLY, INCLUDE, ALL]:
        wanted = expected(index)
        page = db.query(**asked(index, Select="COUNT"))
        equal((page["Count"], page["ScannedCount"], "Items" in page), (len(wanted), len(wanted), False))
        equal([set(item) for item in query(index, Select="ALL_ATTRIBUTES")], [set(item) for item in wanted])
        equal([item["heavy"] for item in query(index, Select="ALL_ATTRIBUTES")], [item["heavy"] for item in wanted])
        equal(query(index, Select="SPECIFIC_ATTRIBUTES", ProjectionExpression="note"), [{"note": item["note"]} for item in wanted])
        for select_word in ["ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES"]:
            with refused("ValidationException", f"Cannot specify the ProjectionExpression when choosing to get {select_word}"):
                query(index, Select=select_word, ProjectionExpression="sk")
        with refused("ValidationException", "Cannot specify the ProjectionExpression when choosing to get only the Count"):
            query(index, Select="COUNT", ProjectionExpression="sk")
        told = "Must specify the AttributesToGet or ProjectionExpression when choosing to get SPECIFIC_ATTRIBUTES"
        with refused("ValidationException", told):
            query(index, Select="SPECIFIC_ATTRIBUTES")
        with refused("ValidationException"):
            query(index, Select="NONSENSE")


@check
def filters():
    def numbers_of(index, holds):
        return [number for number in sorts(expected(index)) if holds(number)]

    # Projected, not projected, and the table's sort key, which is no key of the index.
    note = {":n": {"S": "note 3"}}
    equal(sorts(query(INCLUDE, values=note, FilterExpression="begins_with(note, :n)")), numbers_of(INCLUDE, lambda number: str(number).startswith("3")))
    equal(sorts(query(KEYS_ONLY, values=note, FilterExpression="begins_with(note, :n)")), numbers_of(KEYS_ONLY, lambda number: str(number).startswith("3")))
    few = {":n": {"N": "20"}}
    equal(sorts(query(KEYS_ONLY, values=few, FilterExpression="heavy[0] < :n")), numbers_of(KEYS_ONLY, lambda number: number < 20))
    equal(sorts(query(KEYS_ONLY, values=few, FilterExpression="sk < :n")), numbers_of(KEYS_ONLY, lambda number: number < 20))
    # What is filtered by is not shown for that.
    found = query(KEYS_ONLY, values=note, FilterExpression="note = :n OR attribute_exists(heavy)")
    assert found and all(set(item) == {"pk", "sk", "word"} for item in found), found[:1]
    page = db.query(**asked(KEYS_ONLY, "", few, FilterExpression="heavy[0] < :n", Limit=10))
    first = sorts(expected(KEYS_ONLY))[:10]
    equal((sorts(page["Items"]), page["Count"], page["ScannedCount"]), ([number for number in first if number < 20], len([number for number in first if number < 20]), 10))
    equal(page["LastEvaluatedKey"]["sk"], {"N": str(first[-1])})
    told = "Filter Expression can only contain non-primary key attributes: Primary key attribute: "
    with refused("ValidationException", told + "word"):
        query(KEYS_ONLY, values={":n": {"S": "a"}}, FilterExpression="#a = :n")
    with refused("ValidationException", told + "pk"):
        query(KEYS_ONLY, values={":n": {"S": "a"}}, FilterExpression="pk = :n")


@check
def a_strong_read_sees_the_write_before_it():
    name, _, _ = filled()
    pk = fresh("strong")
    ask = {"TableName": name, "IndexName": INCLUDE, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}}
    for number in range(40):
        db.put_item(TableName=name, Item={"pk": {"S": pk}, "sk": {"N": str(number)}, "amount": {"N": str(-number)}})
        equal(sorts(db.query(**ask, ConsistentRead=True)["Items"]), list(range(number, -1, -1)))
    until("an eventual read sees them, too", lambda: sorts(db.query(**ask, ConsistentRead=False)["Items"]) == list(range(39, -1, -1)))
    for number in range(40):
        db.delete_item(TableName=name, Key={"pk": {"S": pk}, "sk": {"N": str(number)}})
        equal(db.query(**ask, ConsistentRead=True, Select="COUNT")["Count"], 39 - number)


@check
def scan():
    name = create(db, f"local_indexes.scan.{os.getpid()}", "S", "N", INDEXES)
    items = {}
    for number in range(90):
        item = {"pk": {"S": f"p{number % 9}"}, "sk": {"N": str(number)}, "note": {"S": "even" if number % 2 == 0 else "odd"}}
        if number % 3:
            item["amount"] = {"N": str(number * 37 % 11)}
        db.put_item(TableName=name, Item=item)
        items[number] = item
    there = {number for number in items if "amount" in items[number]}

    def found(**more):
        return [item for page in pages(db.scan, TableName=name, IndexName=INCLUDE, ConsistentRead=True, **more) for item in page["Items"]]

    whole = found()
    equal(sorted(sorts(whole)), sorted(there))
    for limit in [1, 7, 1000]:
        equal(sorts(found(Limit=limit)), sorts(whole))
    for partition in {item["pk"]["S"] for item in whole}:
        own = [item for item in whole if item["pk"]["S"] == partition]
        equal(own, sorted(own, key=lambda item: (ordered(item["amount"]), int(item["sk"]["N"]))))
    assert all(set(item) == {"pk", "sk", "amount", "note"} for item in whole), whole[0]
    page = db.scan(TableName=name, IndexName=INCLUDE, Limit=2, ConsistentRead=True)
    equal(set(page["LastEvaluatedKey"]), {"pk", "sk", "amount"})
    even = {":e": {"S": "even"}}
    equal(sorted(sorts(found(FilterExpression="note = :e", ExpressionAttributeValues=even))), sorted(number for number in there if number % 2 == 0))
    small = {":n": {"N": "3"}}
    # A scan's filter may name any key.
    equal(sorted(sorts(found(FilterExpression="amount < :n", ExpressionAttributeValues=small))), sorted(number for number in there if number * 37 % 11 < 3))
    equal(sum(page["Count"] for page in pages(db.scan, TableName=name, IndexName=INCLUDE, Select="COUNT", ConsistentRead=True)), len(there))
    equal(found(Select="ALL_ATTRIBUTES"), [items[int(item["sk"]["N"])] for item in whole])
    equal(found(ProjectionExpression="amount"), [{"amount": item["amount"]} for item in whole])
    for index in [KEYS_ONLY, ALL]:
        equal(db.scan(TableName=name, IndexName=index, ConsistentRead=True)["Count"], 0)
    for total in [1, 2, 5, 64]:
        seen = []
        for segment in range(total):
            seen += sorts(found(TotalSegments=total, Segment=segment, Limit=4))
        equal(sorted(seen), sorted(there))


@check
def what_is_refused():
    name, pk, _ = filled()
    values = {":pk": {"S": pk}, ":n": {"N": "1"}, ":s": {"S": "a"}}

    def attempt(condition, index=INCLUDE, **more):
        used = {placeholder: value for placeholder, value in values.items() if placeholder in condition}
        db.query(TableName=name, IndexName=index, KeyConditionExpression=condition, ExpressionAttributeValues=used, **more)

    with refused("ValidationException", "The table does not have the specified index: nothing"):
        attempt("pk = :pk", "nothing")
    with refused("ValidationException", "The table does not have the specified index: nothing"):
        db.scan(TableName=name, IndexName="nothing")
    with refused("ValidationException", "The table does not have the specified index: by-word"):
        db.scan(TableName=table(db, "S", "N"), IndexName="by-word")
    for wrong in ["ab", "x" * 256, "no spaces"]:
        with refused("ValidationException", part="indexName"):
            attempt("pk = :pk", wrong)
    for condition, text in [
        ("amount = :n", "Query condition missed key schema element: pk"),
        ("pk = :pk AND sk = :n", "Query condition missed key schema element: amount"),
        ("pk = :pk AND word = :s", "Query condition missed key schema element: amount"),
        ("pk > :pk AND amount = :n", "Query key condition not supported"),
        ("pk = :pk AND amount = :s", "One or more parameter values were invalid: Condition parameter type does not match schema type"),
        ("pk = :pk AND amount <> :n", None),
        ("pk = :pk AND amount = :n AND sk = :n", None),
    ]:
        with refused("ValidationException", text):
            attempt(condition)
    with refused("ValidationException", part="Query condition missed key schema element"):
        db.query(TableName=name, KeyConditionExpression="pk = :pk AND amount = :n", ExpressionAttributeValues={":pk": {"S": pk}, ":n": {"N": "1"}})
    with refused("ResourceNotFoundException"):
        db.query(TableName="nowhere", IndexName="by-word", KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}})


@check
def start_keys_that_are_none():
    name, pk, _ = filled()
    good = {"pk": {"S": pk}, "sk": {"N": "1"}, "amount": {"N": "2"}}
    for wrong in [
        {"pk": good["pk"], "sk": good["sk"]},
        {"pk": good["pk"], "amount": good["amount"]},
        {"sk": good["sk"], "amount": good["amount"]},
        {**good, "amount": {"S": "2"}},
        {**good, "sk": {"S": "1"}},
        {**good, "word": {"S": "a"}},
        {"pk": good["pk"], "sk": good["sk"], "word": {"S": "a"}},
        {**good, "pk": {"S": "another"}},
    ]:
        with refused("ValidationException", part="starting key is"):
            db.query(**asked(INCLUDE, ExclusiveStartKey=wrong))
    for wrong in [{"pk": good["pk"], "sk": good["sk"]}, {**good, "amount": {"S": "2"}}, {**good, "word": {"S": "a"}}]:
        with refused("ValidationException", part="starting key is"):
            db.scan(TableName=name, IndexName=INCLUDE, ExclusiveStartKey=wrong)
    with refused("ValidationException", part="starting key"):
        db.query(**asked(INCLUDE, " AND #a > :n", {":n": {"N": "5"}}, ExclusiveStartKey=good))
    with refused("ValidationException", part="starting key is"):
        # The table's own query takes no key of an index.
        db.query(TableName=name, KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": {"S": pk}}, ExclusiveStartKey=good)


@check
def parameters_from_before_expressions():
    name, pk, _ = filled()

    def found(operator=None, *values, **more):
        conditions = {"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": pk}]}}
        if operator:
            conditions["amount"] = {"ComparisonOperator": operator, "AttributeValueList": [{"N": value} for value in values]}
        return [item for page in pages(db.query, TableName=name, IndexName=INCLUDE, KeyConditions=conditions, ConsistentRead=True, **more) for item in page["Items"]]

    for operator, values, holds in [
        (None, (), lambda value: True),
        ("EQ", ("2",), lambda value: value == 2),
        ("LT", ("2",), lambda value: value < 2),
        ("LE", ("2",), lambda value: value <= 2),
        ("GT", ("0.5",), lambda value: value > Decimal("0.5")),
        ("GE", ("0.5",), lambda value: value >= Decimal("0.5")),
        ("BETWEEN", ("-10", "2"), lambda value: -10 <= value <= 2),
    ]:
        equal((operator, sorts(found(operator, *values))), (operator, sorts(expected(INCLUDE, holds))))
        equal(sorts(found(operator, *values, ScanIndexForward=False, Limit=3)), sorts(expected(INCLUDE, holds, False)))
    begins = {"ComparisonOperator": "BEGINS_WITH", "AttributeValueList": [{"S": "note 1"}]}
    equal(sorts(found(QueryFilter={"note": begins})), [number for number in sorts(expected(INCLUDE)) if str(number).startswith("1")])
    equal(found("EQ", "2", AttributesToGet=["note"]), [{"note": item["note"]} for item in expected(INCLUDE, lambda value: value == 2)])
    equal(found("EQ", "2", AttributesToGet=["heavy"]), [{"heavy": item["heavy"]} for item in expected(INCLUDE, lambda value: value == 2)])
    scanned = [item for page in pages(db.scan, TableName=name, IndexName=INCLUDE, ScanFilter={"note": begins}, ConsistentRead=True) for item in page["Items"] if item["pk"]["S"] == pk]
    equal(sorts(scanned), [number for number in sorts(expected(INCLUDE)) if str(number).startswith("1")])
    with refused("ValidationException"):
        found("NE", "2")
    with refused("ValidationException"):
        found(QueryFilter={"amount": {"ComparisonOperator": "EQ", "AttributeValueList": [{"N": "1"}]}})
    with refused("ValidationException", "Query condition missed key schema element: amount"):
        both = {"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": pk}]}, "sk": {"ComparisonOperator": "EQ", "AttributeValueList": [{"N": "1"}]}}
        db.query(TableName=name, IndexName=INCLUDE, KeyConditions=both)


@check
def paginators():
    found = list(db.get_paginator("query").paginate(**asked(ALL), PaginationConfig={"PageSize": 6}))
    equal(sorts([item for page in found for item in page["Items"]]), sorts(expected(ALL)))
    equal([page["Count"] for page in found][:3], [6, 6, 6])


@check
def what_reading_costs():
    name = create(db, f"local_indexes.costs.{os.getpid()}", "S", "N", [(KEYS_ONLY, "word", "S", "KEYS_ONLY"), (INCLUDE, "amount", "N", ["note"]), (ALL, "mark", "B", "ALL")])
    pk = "p"
    # Three items of some 5,060 bytes: two units each where they are fetched one by one, four together.
    for number in range(3):
        item = {"pk": {"S": pk}, "sk": {"N": str(number)}, "word": {"S": "w"}, "amount": {"N": "1"}, "mark": {"B": b"m"}, "note": {"S": "n" * 2000}, "fill": {"S": "x" * 3000}}
        db.put_item(TableName=name, Item=item)

    def cost(index, wanted="INDEXES", operation=db.query, **more):
        if operation == db.query:
            more = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}, **more}
        return operation(TableName=name, IndexName=index, ReturnConsumedCapacity=wanted, **more)["ConsumedCapacity"]

    def told(index, **more):
        consumed = cost(index, **more)
        equal((consumed["TableName"], set(consumed)), (name, {"TableName", "CapacityUnits", "Table", "LocalSecondaryIndexes"}))
        equal(set(consumed["LocalSecondaryIndexes"]), {index})
        return consumed["CapacityUnits"], consumed["Table"]["CapacityUnits"], consumed["LocalSecondaryIndexes"][index]["CapacityUnits"]

    strong = {"ConsistentRead": True}
    equal(told(KEYS_ONLY, **strong), (1.0, 0.0, 1.0))
    equal(told(INCLUDE, **strong), (2.0, 0.0, 2.0))
    equal(told(ALL, **strong), (4.0, 0.0, 4.0))
    equal(told(ALL, **strong, Limit=1), (2.0, 0.0, 2.0))
    equal(told(ALL, **strong, Select="COUNT"), (4.0, 0.0, 4.0))
    equal(told(KEYS_ONLY, **strong, ProjectionExpression="sk, word"), (1.0, 0.0, 1.0))
    # What the index does not show costs a read of each item from the table.
    equal(told(KEYS_ONLY, **strong, Select="ALL_ATTRIBUTES"), (7.0, 6.0, 1.0))
    equal(told(KEYS_ONLY, **strong, ProjectionExpression="note"), (7.0, 6.0, 1.0))
    equal(told(INCLUDE, **strong, ProjectionExpression="note"), (2.0, 0.0, 2.0))
    equal(told(ALL, **strong, Select="ALL_ATTRIBUTES"), (4.0, 0.0, 4.0))
    # Only what is returned is fetched, unless the filter has to see more than the index shows.
    equal(told(KEYS_ONLY, **strong, FilterExpression="attribute_exists(fill)"), (7.0, 6.0, 1.0))
    equal(told(KEYS_ONLY, **strong, FilterExpression="attribute_not_exists(fill)"), (7.0, 6.0, 1.0))
    one = {":pk": {"S": pk}, ":n": {"N": "1"}}
    equal(told(KEYS_ONLY, **strong, FilterExpression="sk = :n", ExpressionAttributeValues=one), (1.0, 0.0, 1.0))
    equal(told(KEYS_ONLY, **strong, FilterExpression="sk = :n", ExpressionAttributeValues=one, Select="ALL_ATTRIBUTES"), (3.0, 2.0, 1.0))
    equal(told(KEYS_ONLY, **strong, operation=db.scan), (1.0, 0.0, 1.0))
    equal(told(KEYS_ONLY, **strong, operation=db.scan, Select="ALL_ATTRIBUTES"), (7.0, 6.0, 1.0))
    until("a replica that is asked has all three", lambda: told(ALL) == (2.0, 0.0, 2.0))
    until("a replica that is asked has all three", lambda: told(KEYS_ONLY, Select="ALL_ATTRIBUTES") == (3.5, 3.0, 0.5))
    equal(cost(KEYS_ONLY, "TOTAL", **strong), {"TableName": name, "CapacityUnits": 1.0})
    equal(cost(KEYS_ONLY, "TOTAL", Select="ALL_ATTRIBUTES", **strong), {"TableName": name, "CapacityUnits": 7.0})
    nobody = {":pk": {"S": "nobody"}}
    equal(told(KEYS_ONLY, **strong, ExpressionAttributeValues=nobody), (1.0, 0.0, 1.0))


run()
