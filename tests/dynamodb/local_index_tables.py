"""Tables with local secondary indexes: made, described, counted, made wrongly, and made again without them."""

import os

from checks import check, client, create, definitions, equal, key_schema, local_index, refused, run, until, until_active

db = client()
INVALID = "One or more parameter values were invalid: "
INDEXES = [("by-word", "word", "S", "KEYS_ONLY"), ("by-amount", "amount", "N", ["note", "more"]), ("by-mark", "mark", "B", "ALL")]


def name_of(word):
    return f"local_index_tables.{word}.{os.getpid()}"


def described(name):
    return db.describe_table(TableName=name)["Table"]


def by_name(indexes):
    """Descriptions of indexes in the order of their names, what they include in an order, too."""
    for index in indexes:
        if "NonKeyAttributes" in index["Projection"]:
            index["Projection"]["NonKeyAttributes"].sort()
    return sorted(indexes, key=lambda index: index["IndexName"])


@check
def create_and_describe():
    name = name_of("life")
    made = db.create_table(
        TableName=name,
        AttributeDefinitions=definitions(pk="S", sk="N", word="S", amount="N", mark="B"),
        KeySchema=key_schema("sk"),
        LocalSecondaryIndexes=[local_index(*index) for index in INDEXES],
        BillingMode="PAY_PER_REQUEST",
    )["TableDescription"]
    until_active(db, name)
    is_told = lambda table: all("ItemCount" in index for index in table["LocalSecondaryIndexes"])
    table = until("the indexes are counted", lambda: next(filter(is_told, [described(name)]), None))
    wanted = [{**local_index(*index), "IndexSizeBytes": 0, "ItemCount": 0, "IndexArn": f"{table['TableArn']}/index/{index[0]}"} for index in INDEXES]
    for told in [made, table]:
        equal(by_name(told["LocalSecondaryIndexes"]), by_name(wanted))
        kinds = {one["AttributeName"]: one["AttributeType"] for one in told["AttributeDefinitions"]}
        equal((kinds, len(told["AttributeDefinitions"])), ({"pk": "S", "sk": "N", "word": "S", "amount": "N", "mark": "B"}, 5))
        equal(told["KeySchema"], key_schema("sk"))
    assert "GlobalSecondaryIndexes" not in table, table
    gone = db.delete_table(TableName=name)["TableDescription"]
    equal((gone["TableStatus"], "LocalSecondaryIndexes" in gone), ("DELETING", False))
    assert "LocalSecondaryIndexes" not in described(create(db, name_of("plain"), "S", "N")), "a table without any tells none"


@check
def five_indexes_some_of_them_over_one_attribute():
    indexes = [("one", "word", "S", "ALL"), ("two", "word", "S", "KEYS_ONLY"), ("a-3", "amount", "N", ["word"]), ("A-3", "mark", "B", ["pk", "sk", "mark"]), ("x" * 255, "mark", "B", "ALL")]
    name = create(db, name_of("five"), "B", "S", indexes)
    equal({index["IndexName"] for index in described(name)["LocalSecondaryIndexes"]}, {index[0] for index in indexes})
    item = {"pk": {"B": b"p"}, "sk": {"S": "s"}, "word": {"S": "w"}, "amount": {"N": "1"}, "mark": {"B": b"m"}, "note": {"S": "n"}}
    db.put_item(TableName=name, Item=item)
    for index, attribute, _, projection in indexes:
        shown = {"pk", "sk", attribute} | (set(item) if projection == "ALL" else set() if projection == "KEYS_ONLY" else set(projection))
        ask = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"B": b"p"}}, "ConsistentRead": True}
        equal(db.query(TableName=name, IndexName=index, **ask)["Items"], [{attribute: item[attribute] for attribute in item if attribute in shown}])


@check
def counts_of_indexes():
    name = create(db, name_of("count"), "S", "N", INDEXES)
    for number in range(10):
        item = {"pk": {"S": "p"}, "sk": {"N": "1" + str(number)}, "note": {"S": "n" * 10}, "fill": {"S": "x" * 100}}
        if number < 7:
            item["word"] = {"S": "abc"}
        if number < 4:
            item["amount"] = {"N": "5"}
        db.put_item(TableName=name, Item=item)

    def counted():
        table = described(name)
        return table.get("ItemCount"), {index["IndexName"]: (index.get("ItemCount"), index.get("IndexSizeBytes")) for index in table["LocalSecondaryIndexes"]}

    # The key is 13 as it is packed: hash 4, pk 4, sk 5; word 7, amount 8, note 14. What an index does not show does not count.
    until("the indexes are counted", lambda: counted() == (10, {"by-word": (7, 7 * 20), "by-amount": (4, 4 * 35), "by-mark": (0, 0)}))
    db.update_item(TableName=name, Key={"pk": {"S": "p"}, "sk": {"N": "10"}}, UpdateExpression="REMOVE word SET note = :n", ExpressionAttributeValues={":n": {"S": "n"}})
    db.delete_item(TableName=name, Key={"pk": {"S": "p"}, "sk": {"N": "11"}})
    until("they are counted anew", lambda: counted() == (9, {"by-word": (5, 5 * 20), "by-amount": (3, 2 * 35 + 26), "by-mark": (0, 0)}))


def attempt(indexes, schema=None, attributes=None, **more):
    """Asks for a table that has to be refused."""
    db.create_table(
        TableName=name_of("refused"),
        KeySchema=schema or key_schema("sk"),
        AttributeDefinitions=attributes or definitions(pk="S", sk="N", word="S"),
        LocalSecondaryIndexes=indexes,
        BillingMode="PAY_PER_REQUEST",
        **more,
    )


@check
def keys_that_no_index_can_have():
    good = local_index(*INDEXES[0])

    def keyed(*elements):
        return [{**good, "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in elements]}]

    for elements, text in [
        ([("pk", "HASH")], INVALID + "Index KeySchema does not have a range key for index: by-word"),
        ([("pk", "RANGE")], "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"),
        ([("word", "RANGE"), ("pk", "HASH")], "Invalid KeySchema: The first KeySchemaElement is not a HASH key type"),
        ([("pk", "HASH"), ("word", "HASH")], "Invalid KeySchema: The second KeySchemaElement is not a RANGE key type"),
        ([("pk", "HASH"), ("pk", "RANGE")], "Both the Hash Key and the Range Key element in the KeySchema have the same name"),
        (
            [("word", "HASH"), ("pk", "RANGE")],
            INVALID + "Index KeySchema does not have the same leading hash key as table KeySchema for index: by-word. index hash key: word, table hash key: pk",
        ),
    ]:
        with refused("ValidationException", text):
            attempt(keyed(*elements))
    with refused("ValidationException", part="Some index key attributes are not defined in AttributeDefinitions"):
        attempt(keyed(("pk", "HASH"), ("other", "RANGE")))
    with refused("ValidationException", part="Some index key attributes are not defined in AttributeDefinitions"):
        attempt([good], attributes=definitions(pk="S", sk="N"))
    with refused("ValidationException", part="Some AttributeDefinitions are not used"):
        attempt([good], attributes=definitions(pk="S", sk="N", word="S", more="S"))
    # AWS allows this one, which has the items in the table's own order.
    with refused("ValidationException", part="not supported"):
        attempt(keyed(("pk", "HASH"), ("sk", "RANGE")), attributes=definitions(pk="S", sk="N"))
    told = INVALID + "Table KeySchema does not have a range key, which is required when specifying a LocalSecondaryIndex"
    with refused("ValidationException", told):
        attempt([good], key_schema("sk")[:1], definitions(pk="S", word="S"))


@check
def lists_and_names_that_are_wrong():
    good = local_index(*INDEXES[0])
    with refused("ValidationException", INVALID + "List of LocalSecondaryIndexes is empty"):
        attempt([], attributes=definitions(pk="S", sk="N"))
    with refused("ValidationException", INVALID + "Duplicate index name: by-word"):
        attempt([good, good])
    with refused("ValidationException", INVALID + "Number of LocalSecondaryIndexes exceeds per-table limit of 5"):
        attempt([{**good, "IndexName": f"by-word-{number}"} for number in range(6)])
    for wrong in ["ab", "x" * 256, "no spaces", ""]:
        with refused("ValidationException", part="localSecondaryIndexes.1.member.indexName"):
            attempt([{**good, "IndexName": wrong}])
    for missing in ["indexName", "keySchema", "projection"]:
        part = f"localSecondaryIndexes.2.member.{missing}' failed to satisfy constraint: Member must not be null"
        with refused("ValidationException", part=part):
            attempt([good, {name: value for name, value in good.items() if name.lower() != missing.lower()}])
    with refused("ValidationException", part="localSecondaryIndexes.1.member.keySchema"):
        attempt([{**good, "KeySchema": []}])
    with refused("ValidationException", part="localSecondaryIndexes.1.member.keySchema"):
        attempt([{**good, "KeySchema": [*good["KeySchema"], {"AttributeName": "sk", "KeyType": "RANGE"}]}])


@check
def projections_that_are_wrong():
    def projecting(**projection):
        attempt([{**local_index(*INDEXES[0]), "Projection": projection}])

    with refused("ValidationException", INVALID + "Unknown ProjectionType: null"):
        projecting()
    with refused("ValidationException", INVALID + "Unknown ProjectionType: null"):
        projecting(NonKeyAttributes=["note"])
    for kind in ["ALL", "KEYS_ONLY"]:
        with refused("ValidationException", INVALID + f"ProjectionType is {kind}, but NonKeyAttributes is specified"):
            projecting(ProjectionType=kind, NonKeyAttributes=["note"])
    with refused("ValidationException", INVALID + "ProjectionType is INCLUDE, but NonKeyAttributes is not specified"):
        projecting(ProjectionType="INCLUDE")
    with refused("ValidationException", part="localSecondaryIndexes.1.member.projection.projectionType"):
        projecting(ProjectionType="SOME")
    for names in [[], [f"n{number}" for number in range(21)], [""], ["x" * 256]]:
        with refused("ValidationException", part="localSecondaryIndexes.1.member.projection.nonKeyAttributes"):
            projecting(ProjectionType="INCLUDE", NonKeyAttributes=names)
    projection = {"ProjectionType": "INCLUDE", "NonKeyAttributes": [f"n{number}" for number in range(20)]}
    name = name_of("twenty")
    made = [{**local_index(*INDEXES[0]), "IndexName": f"by-word-{number}", "Projection": projection} for number in range(5)]
    db.create_table(TableName=name, KeySchema=key_schema("sk"), AttributeDefinitions=definitions(pk="S", sk="N", word="S"), LocalSecondaryIndexes=made, BillingMode="PAY_PER_REQUEST")
    until_active(db, name)


@check
def what_was_refused_is_not_there():
    with refused("ResourceNotFoundException"):
        described(name_of("refused"))


@check
def a_table_that_is_made_again_has_its_own_indexes():
    name = create(db, name_of("again"), "S", "N", INDEXES)
    item = {"pk": {"S": "p"}, "sk": {"N": "1"}, "word": {"S": "w"}, "mark": {"B": b"m"}}
    db.put_item(TableName=name, Item=item)
    db.delete_table(TableName=name)
    db.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    create(db, name, "S", "N", [("by-mark", "mark", "S", "ALL")])
    ask = {"TableName": name, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": "p"}}, "ConsistentRead": True}
    equal(db.query(**ask, IndexName="by-mark")["Count"], 0)
    with refused("ValidationException", "The table does not have the specified index: by-word"):
        db.query(**ask, IndexName="by-word")
    with refused("ValidationException", part="Type mismatch for Index Key mark Expected: S Actual: B IndexName: by-mark"):
        db.put_item(TableName=name, Item=item)
    db.put_item(TableName=name, Item={**item, "word": {"N": "1"}, "mark": {"S": "m"}})
    equal(db.query(**ask, IndexName="by-mark")["Count"], 1)


@check
def update_table_leaves_indexes_alone():
    name = create(db, name_of("update"), "S", "N", INDEXES)
    db.update_table(TableName=name, DeletionProtectionEnabled=True)
    until_active(db, name)
    equal(len(described(name)["LocalSecondaryIndexes"]), 3)
    db.update_table(TableName=name, AttributeDefinitions=definitions(pk="S", sk="N", word="S", amount="N", mark="B"), DeletionProtectionEnabled=False)
    until_active(db, name)
    equal(len(described(name)["LocalSecondaryIndexes"]), 3)


run()
