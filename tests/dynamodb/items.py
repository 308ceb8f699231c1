"""PutItem, GetItem, DeleteItem: their parameters, what they return, and what they refuse."""

from checks import check, client, equal, fresh, item_of, refused, run, table

db = client()
FAILED = "The conditional request failed"


def put(item, **more):
    return db.put_item(TableName=table(db), Item=item, **more)


def thing(**attributes):
    """An item with a key of its own."""
    return {"pk": {"S": fresh()}, **attributes}


def key(item):
    return {"pk": item["pk"]}


@check
def put_and_get():
    item = thing(a={"S": "x"}, n={"N": "1"})
    equal({name for name in put(item) if name != "ResponseMetadata"}, set())
    equal(item_of(db, table(db), key(item)), item)
    put({**key(item), "b": {"BOOL": False}})
    equal(item_of(db, table(db), key(item)), {**key(item), "b": {"BOOL": False}})


@check
def get_what_is_not_there():
    answer = db.get_item(TableName=table(db), Key=key(thing()))
    assert "Item" not in answer, answer


@check
def eventual_reads():
    item = thing(a={"S": "x"})
    put(item)
    answer = db.get_item(TableName=table(db), Key=key(item), ConsistentRead=False)
    assert answer.get("Item", item) == item, answer


@check
def put_returns_old():
    item = thing(a={"N": "1"})
    assert "Attributes" not in put(item, ReturnValues="ALL_OLD")
    equal(put({**item, "a": {"N": "2"}}, ReturnValues="ALL_OLD")["Attributes"], item)
    assert "Attributes" not in put(item, ReturnValues="NONE")
    for wish in ["ALL_NEW", "UPDATED_OLD", "UPDATED_NEW"]:
        with refused("ValidationException", "ReturnValues can only be ALL_OLD or NONE"):
            put(item, ReturnValues=wish)
    with refused("ValidationException", part="1 validation error detected: Value 'SOME' at 'returnValues' failed to satisfy constraint"):
        put(item, ReturnValues="SOME")


@check
def put_condition():
    item = thing(a={"N": "1"})
    put(item, ConditionExpression="attribute_not_exists(pk)")
    with refused("ConditionalCheckFailedException", FAILED):
        put({**item, "a": {"N": "2"}}, ConditionExpression="attribute_not_exists(pk)")
    equal(item_of(db, table(db), key(item)), item)
    names, values = {"#a": "a"}, {":one": {"N": "1.0"}}
    put({**item, "a": {"N": "3"}}, ConditionExpression="#a = :one", ExpressionAttributeNames=names, ExpressionAttributeValues=values)
    equal(item_of(db, table(db), key(item))["a"], {"N": "3"})


@check
def put_condition_returns_the_item():
    item = thing(a={"N": "1"})
    put(item)
    try:
        put(key(item), ConditionExpression="attribute_not_exists(pk)", ReturnValuesOnConditionCheckFailure="ALL_OLD")
    except db.exceptions.ConditionalCheckFailedException as error:
        equal(error.response["Item"], item)
    else:
        raise AssertionError("was not refused")
    try:
        put(key(item), ConditionExpression="attribute_not_exists(pk)", ReturnValuesOnConditionCheckFailure="NONE")
    except db.exceptions.ConditionalCheckFailedException as error:
        assert "Item" not in error.response, error.response
    else:
        raise AssertionError("was not refused")


@check
def put_needs_its_key():
    with refused("ValidationException", "One or more parameter values were invalid: Missing the key pk in the item"):
        put({"a": {"S": "x"}})
    with refused("ValidationException", "One or more parameter values were invalid: Type mismatch for key pk expected: S actual: N"):
        put({"pk": {"N": "1"}})
    empty = "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: pk"
    with refused("ValidationException", empty):
        put({"pk": {"S": ""}})


@check
def get_needs_the_whole_key_and_no_more():
    schema = "The provided key element does not match the schema"
    for wrong in [{"pk": {"N": "1"}}, {"other": {"S": "a"}}, {}, {"pk": {"S": "a"}, "sk": {"S": "a"}}]:
        with refused("ValidationException", schema):
            db.get_item(TableName=table(db), Key=wrong)
    with refused("ValidationException", schema):
        db.get_item(TableName=table(db, "S", "N"), Key={"pk": {"S": "a"}})


@check
def get_projection():
    inner = {"M": {"x": {"N": "1"}, "y": {"L": [{"S": "p"}, {"S": "q"}]}}}
    item = thing(a=inner, b={"S": "b"}, c={"S": "c"})
    put(item)

    def projected(text, **more):
        return item_of(db, table(db), key(item), ProjectionExpression=text, **more)

    equal(projected("b"), {"b": {"S": "b"}})
    equal(projected("pk, b"), {"pk": item["pk"], "b": {"S": "b"}})
    equal(projected("a.x"), {"a": {"M": {"x": {"N": "1"}}}})
    equal(projected("a.y[1], nothing"), {"a": {"M": {"y": {"L": [{"S": "q"}]}}}})
    equal(projected("#c", ExpressionAttributeNames={"#c": "c"}), {"c": {"S": "c"}})
    equal(projected("nothing"), {})
    with refused("ValidationException", part="Two document paths overlap with each other"):
        projected("a, a.x")
    with refused("ValidationException", "Invalid ProjectionExpression: Attribute name is a reserved keyword; reserved keyword: name"):
        projected("name")


@check
def delete():
    item = thing(a={"S": "x"})
    put(item)
    equal(db.delete_item(TableName=table(db), Key=key(item), ReturnValues="ALL_OLD")["Attributes"], item)
    assert "Attributes" not in db.delete_item(TableName=table(db), Key=key(item), ReturnValues="ALL_OLD")
    assert item_of(db, table(db), key(item)) is None
    with refused("ValidationException", "ReturnValues can only be ALL_OLD or NONE"):
        db.delete_item(TableName=table(db), Key=key(item), ReturnValues="ALL_NEW")


@check
def delete_condition():
    item = thing(a={"N": "5"})
    put(item)
    more = {"ConditionExpression": "a < :n", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
    try:
        db.delete_item(TableName=table(db), Key=key(item), ExpressionAttributeValues={":n": {"N": "5"}}, **more)
    except db.exceptions.ConditionalCheckFailedException as error:
        equal(error.response["Item"], item)
    else:
        raise AssertionError("was not refused")
    db.delete_item(TableName=table(db), Key=key(item), ExpressionAttributeValues={":n": {"N": "6"}}, **more)
    assert item_of(db, table(db), key(item)) is None
    with refused("ConditionalCheckFailedException", FAILED):
        db.delete_item(TableName=table(db), Key=key(item), ConditionExpression="attribute_exists(pk)")


@check
def consumed_capacity():
    item = thing(a={"S": "x" * 1500})
    cost = put(item, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]
    equal((cost["TableName"], cost["CapacityUnits"]), (table(db), 2.0))
    cost = put(item, ReturnConsumedCapacity="INDEXES")["ConsumedCapacity"]
    equal(cost["Table"]["CapacityUnits"], 2.0)
    read = {"TableName": table(db), "Key": key(item), "ReturnConsumedCapacity": "TOTAL"}
    equal(db.get_item(**read)["ConsumedCapacity"]["CapacityUnits"], 0.5)
    equal(db.get_item(**read, ConsistentRead=True)["ConsumedCapacity"]["CapacityUnits"], 1.0)
    assert "ConsumedCapacity" not in put(item, ReturnConsumedCapacity="NONE")
    cost = db.delete_item(TableName=table(db), Key=key(item), ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]
    equal(cost["CapacityUnits"], 2.0)


@check
def item_collection_metrics():
    # Only tables with local secondary indexes have such metrics; asking is no error.
    assert "ItemCollectionMetrics" not in put(thing(), ReturnItemCollectionMetrics="SIZE")


@check
def a_table_that_is_not_there():
    with refused("ResourceNotFoundException", "Requested resource not found"):
        db.get_item(TableName="nowhere", Key={"pk": {"S": "a"}})
    with refused("ResourceNotFoundException", "Requested resource not found"):
        db.put_item(TableName="nowhere", Item={"pk": {"S": "a"}})
    with refused("ValidationException", part="tableName"):
        db.put_item(TableName="a", Item={"pk": {"S": "a"}})
    with refused("ValidationException", part="tableName"):
        db.put_item(TableName="no/name", Item={"pk": {"S": "a"}})


@check
def an_arn_is_a_name():
    arn = db.describe_table(TableName=table(db))["Table"]["TableArn"]
    item = thing(a={"S": "by ARN"})
    db.put_item(TableName=arn, Item=item)
    equal(db.get_item(TableName=arn, Key=key(item), ConsistentRead=True)["Item"], item)


@check
def expression_parameters_that_are_not_used():
    item = thing()
    unused = "Value provided in ExpressionAttributeValues unused in expressions: keys: {:v}"
    with refused("ValidationException", unused):
        put(item, ConditionExpression="attribute_not_exists(pk)", ExpressionAttributeValues={":v": {"S": "x"}})
    unused = "Value provided in ExpressionAttributeNames unused in expressions: keys: {#n}"
    with refused("ValidationException", unused):
        put(item, ConditionExpression="attribute_not_exists(pk)", ExpressionAttributeNames={"#n": "a"})
    with refused("ValidationException", part="ExpressionAttributeNames can only be specified when using expressions"):
        put(item, ExpressionAttributeNames={"#n": "a"})
    with refused("ValidationException", part="ExpressionAttributeValues can only be specified when using expressions"):
        put(item, ExpressionAttributeValues={":v": {"S": "x"}})


@check
def keys_of_every_type():
    for kind, value in [("N", {"N": "7"}), ("B", {"B": b"\x00\xff"})]:
        name = table(db, kind)
        db.put_item(TableName=name, Item={"pk": value, "a": {"S": kind}})
        equal(item_of(db, name, {"pk": value}), {"pk": value, "a": {"S": kind}})
    name = table(db, "N")
    equal(item_of(db, name, {"pk": {"N": "7.00"}})["pk"], {"N": "7"})
    equal(item_of(db, name, {"pk": {"N": "0.7E1"}})["pk"], {"N": "7"})


run()
