"""The parameters that came before expressions: Expected, AttributeUpdates, KeyConditions, QueryFilter, ScanFilter,
ConditionalOperator, AttributesToGet."""

from checks import check, client, equal, fresh, item_of, pages, refused, run, table

db = client()


def made(**attributes):
    key = {"pk": {"S": fresh()}}
    db.put_item(TableName=table(db), Item={**key, **attributes})
    return key


def number(value):
    return {"N": str(value)}


def text(value):
    return {"S": value}


def update(key, updates, **more):
    return db.update_item(TableName=table(db), Key=key, AttributeUpdates=updates, **more)


def after(key, updates):
    update(key, updates)
    item = item_of(db, table(db), key)
    return {name: value for name, value in item.items() if name != "pk"}


@check
def attribute_updates():
    key = made(a=number(1), b=text("x"), s={"SS": ["a"]}, l={"L": [number(1)]})
    equal(after(key, {"a": {"Value": number(2)}})["a"], number(2))
    equal(after(key, {"a": {"Action": "PUT", "Value": number(3)}, "c": {"Action": "PUT", "Value": text("new")}})["c"], text("new"))
    equal(after(key, {"a": {"Action": "ADD", "Value": number(4)}})["a"], number(7))
    equal(sorted(after(key, {"s": {"Action": "ADD", "Value": {"SS": ["b"]}}})["s"]["SS"]), ["a", "b"])
    equal(after(key, {"l": {"Action": "ADD", "Value": {"L": [number(2)]}}})["l"], {"L": [number(1), number(2)]})
    equal(after(key, {"s": {"Action": "DELETE", "Value": {"SS": ["a"]}}})["s"], {"SS": ["b"]})
    assert "b" not in after(key, {"b": {"Action": "DELETE"}})
    with refused("ValidationException"):
        update(key, {"a": {"Action": "INCREASE", "Value": number(1)}})
    with refused("ValidationException"):
        update(key, {"pk": {"Action": "PUT", "Value": text("x")}})
    with refused("ValidationException"):
        update(key, {"a": {"Action": "PUT"}})
    equal(after({"pk": text(fresh())}, {"n": {"Action": "ADD", "Value": number(1)}}), {"n": number(1)})
    equal(update(key, {"a": {"Value": number(9)}}, ReturnValues="UPDATED_NEW")["Attributes"], {"a": number(9)})


@check
def expected():
    key = made(a=number(1))
    for good in [
        {"a": {"Value": number(1)}},
        {"a": {"Exists": True, "Value": number(1)}},
        {"b": {"Exists": False}},
        {"a": {"ComparisonOperator": "EQ", "AttributeValueList": [number(1)]}},
    ]:
        db.put_item(TableName=table(db), Item={**key, "a": number(1)}, Expected=good)
    for bad in [{"a": {"Value": number(2)}}, {"a": {"Exists": False}}, {"b": {"Value": number(1)}}]:
        with refused("ConditionalCheckFailedException", "The conditional request failed"):
            db.put_item(TableName=table(db), Item=key, Expected=bad)
        with refused("ConditionalCheckFailedException"):
            db.delete_item(TableName=table(db), Key=key, Expected=bad)
        with refused("ConditionalCheckFailedException"):
            update(key, {"a": {"Value": number(5)}}, Expected=bad)
    with refused("ValidationException"):
        db.put_item(TableName=table(db), Item=key, Expected={"a": {"Exists": True}})
    with refused("ValidationException"):
        db.put_item(TableName=table(db), Item=key, Expected={"a": {"Exists": False, "Value": number(1)}})


@check
def expected_operators():
    key = made(n=number(5), s=text("bcd"), ss={"SS": ["a", "b"]}, l={"L": [text("x")]})

    def holds(name, operator, *values):
        condition = {"ComparisonOperator": operator}
        if values:
            condition["AttributeValueList"] = list(values)
        try:
            update(key, {"z": {"Value": number(0)}}, Expected={name: condition})
        except db.exceptions.ConditionalCheckFailedException:
            return False
        return True

    true = [
        ("n", "EQ", number("5.0")),
        ("n", "NE", number(6)),
        ("n", "LT", number(6)),
        ("n", "LE", number(5)),
        ("n", "GT", number(4)),
        ("n", "GE", number(5)),
        ("n", "BETWEEN", number(4), number(6)),
        ("n", "IN", number(1), number(5)),
        ("n", "NOT_NULL"),
        ("nothing", "NULL"),
        ("s", "BEGINS_WITH", text("bc")),
        ("s", "CONTAINS", text("c")),
        ("ss", "CONTAINS", text("a")),
        ("l", "CONTAINS", text("x")),
        ("s", "NOT_CONTAINS", text("x")),
        ("ss", "NOT_CONTAINS", text("c")),
        ("ss", "EQ", {"SS": ["b", "a"]}),
    ]
    false = [
        ("n", "EQ", number(6)),
        ("n", "NE", number(5)),
        ("n", "LT", number(5)),
        ("n", "LT", text("9")),
        ("n", "NULL"),
        ("nothing", "NOT_NULL"),
        ("s", "BEGINS_WITH", text("c")),
        ("s", "NOT_CONTAINS", text("c")),
        ("n", "IN", number(1), number(2)),
    ]
    wrong = [case for case in true if not holds(*case)] + [case for case in false if holds(*case)]
    assert not wrong, f"judged wrongly: {wrong}"
    with refused("ValidationException"):
        holds("n", "BETWEEN", number(1))
    with refused("ValidationException"):
        holds("n", "NULL", number(1))
    with refused("ValidationException"):
        holds("n", "SOUNDS_LIKE", number(1))


@check
def conditional_operator():
    key = made(a=number(1), b=number(2))
    both = {"a": {"Value": number(1)}, "b": {"Value": number(3)}}
    with refused("ConditionalCheckFailedException"):
        update(key, {"z": {"Value": number(0)}}, Expected=both)
    with refused("ConditionalCheckFailedException"):
        update(key, {"z": {"Value": number(0)}}, Expected=both, ConditionalOperator="AND")
    update(key, {"z": {"Value": number(0)}}, Expected=both, ConditionalOperator="OR")
    with refused("ValidationException"):
        update(key, {"z": {"Value": number(0)}}, Expected=both, ConditionalOperator="XOR")
    with refused("ValidationException"):
        update(key, {"z": {"Value": number(0)}}, ConditionalOperator="OR")


@check
def attributes_to_get():
    key = made(a=number(1), b=number(2))
    equal(item_of(db, table(db), key, AttributesToGet=["a", "nothing"]), {"a": number(1)})
    equal(item_of(db, table(db), key, AttributesToGet=["pk"]), key)
    with refused("ValidationException"):
        item_of(db, table(db), key, AttributesToGet=["a", "a"])


@check
def key_conditions():
    name, pk = table(db, "S", "N"), fresh()
    for value in range(1, 11):
        db.put_item(TableName=name, Item={"pk": text(pk), "sk": number(value), "odd": {"BOOL": value % 2 == 1}})

    def found(operator=None, *values, **more):
        conditions = {"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [text(pk)]}}
        if operator:
            conditions["sk"] = {"ComparisonOperator": operator, "AttributeValueList": [number(value) for value in values]}
        items = [item for page in pages(db.query, TableName=name, KeyConditions=conditions, ConsistentRead=True, **more) for item in page["Items"]]
        return [int(item["sk"]["N"]) for item in items]

    equal(found(), list(range(1, 11)))
    equal(found("EQ", 3), [3])
    equal(found("LT", 3), [1, 2])
    equal(found("LE", 3), [1, 2, 3])
    equal(found("GT", 8), [9, 10])
    equal(found("GE", 8), [8, 9, 10])
    equal(found("BETWEEN", 4, 6), [4, 5, 6])
    equal(found("BETWEEN", 4, 6, ScanIndexForward=False), [6, 5, 4])
    true = {"ComparisonOperator": "EQ", "AttributeValueList": [{"BOOL": True}]}
    equal(found(QueryFilter={"odd": true}), [1, 3, 5, 7, 9])
    equal(found(QueryFilter={"odd": true, "nothing": {"ComparisonOperator": "NOT_NULL"}}, ConditionalOperator="OR"), [1, 3, 5, 7, 9])
    with refused("ValidationException"):
        found("NE", 3)
    with refused("ValidationException"):
        found(QueryFilter={"sk": {"ComparisonOperator": "EQ", "AttributeValueList": [number(1)]}})
    with refused("ValidationException"):
        db.query(TableName=name, KeyConditions={"sk": {"ComparisonOperator": "EQ", "AttributeValueList": [number(1)]}})


@check
def begins_with_in_key_conditions():
    name, pk = table(db, "S", "S"), fresh()
    for word in ["a", "ab", "abc", "b"]:
        db.put_item(TableName=name, Item={"pk": text(pk), "sk": text(word)})
    conditions = {
        "pk": {"ComparisonOperator": "EQ", "AttributeValueList": [text(pk)]},
        "sk": {"ComparisonOperator": "BEGINS_WITH", "AttributeValueList": [text("ab")]},
    }
    equal([item["sk"]["S"] for item in db.query(TableName=name, KeyConditions=conditions, ConsistentRead=True)["Items"]], ["ab", "abc"])
    equal(db.query(TableName=name, KeyConditions=conditions, AttributesToGet=["sk"], ConsistentRead=True)["Items"], [{"sk": text("ab")}, {"sk": text("abc")}])


@check
def scan_filter():
    name = table(db, "N")
    for value in range(10):
        db.put_item(TableName=name, Item={"pk": number(value), "n": number(value)})

    def found(**more):
        return sorted(int(item["pk"]["N"]) for page in pages(db.scan, TableName=name, ConsistentRead=True, **more) for item in page["Items"])

    small = {"ComparisonOperator": "LT", "AttributeValueList": [number(3)]}
    equal(found(ScanFilter={"n": small}), [0, 1, 2])
    large = {"ComparisonOperator": "GT", "AttributeValueList": [number(8)]}
    equal(found(ScanFilter={"n": small, "pk": large}), [])
    equal(found(ScanFilter={"n": small, "pk": large}, ConditionalOperator="OR"), [0, 1, 2, 9])
    equal(found(ScanFilter={"n": small}, AttributesToGet=["pk"]), [0, 1, 2])


@check
def old_and_new_are_not_mixed():
    key = made(a=number(1))
    told = "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {AttributesToGet} Expression parameters: {ProjectionExpression}"
    with refused("ValidationException", told):
        item_of(db, table(db), key, AttributesToGet=["a"], ProjectionExpression="a")
    told = "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}"
    with refused("ValidationException", told):
        db.put_item(TableName=table(db), Item=key, Expected={"a": {"Exists": False}}, ConditionExpression="attribute_exists(a)")
    with refused("ValidationException", part="Can not use both expression and non-expression parameters in the same request"):
        update(key, {"a": {"Value": number(1)}}, ConditionExpression="attribute_exists(a)")


run()
