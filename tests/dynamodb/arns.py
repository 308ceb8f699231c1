"""A table's ARN is taken wherever its name is, by every operation that names a table; and an ARN of somebody else's table, or one that is
none, names nothing."""

import os

import botocore.session
from botocore import xform_name

from checks import check, client, create, definitions, equal, fresh, item_of, key_schema, operations_of_the_page, refused, run, until_active

db = client()
MODEL = botocore.session.get_session().get_service_model("dynamodb")
KEY = {"pk": {"S": fresh()}, "sk": {"N": "1"}}
VALUES = {":pk": KEY["pk"]}
# What each operation is asked for besides the table.
PARAMETERS = {
    "CreateTable": {
        "KeySchema": key_schema("sk"),
        "AttributeDefinitions": definitions(pk="S", sk="N", word="S"),
        "LocalSecondaryIndexes": [{"IndexName": "by-word", "KeySchema": key_schema("word"), "Projection": {"ProjectionType": "ALL"}}],
        "BillingMode": "PAY_PER_REQUEST",
    },
    "DescribeTable": {},
    "PutItem": {"Item": {**KEY, "word": {"S": "a"}}},
    "GetItem": {"Key": KEY, "ConsistentRead": True},
    "UpdateItem": {"Key": KEY, "UpdateExpression": "SET n = :one", "ExpressionAttributeValues": {":one": {"N": "1"}}},
    "Query": {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": VALUES, "ConsistentRead": True},
    "Scan": {"ConsistentRead": True},
    "DeleteItem": {"Key": KEY, "ReturnValues": "ALL_OLD"},
    "UpdateTimeToLive": {"TimeToLiveSpecification": {"Enabled": True, "AttributeName": "expires"}},
    "DescribeTimeToLive": {},
    "DescribeContinuousBackups": {},
    "UpdateTable": {"TableClass": "STANDARD_INFREQUENT_ACCESS"},
    "DeleteTable": {},
}
ITEM = {**KEY, "word": {"S": "a"}, "n": {"N": "1"}}
_prefix = []


def name_of(word):
    return f"arns.{word}.{os.getpid()}"


def arn_of(name):
    """The ARN of this tenant's table of this name, there or not."""
    if not _prefix:
        first = db.describe_table(TableName=create(db, name_of("first"), "S", "N"))["Table"]
        _prefix.append(first["TableArn"].rsplit("/", 1)[0])
    return f"{_prefix[0]}/{name}"


def ask(operation, table, **more):
    return getattr(db, xform_name(operation))(TableName=table, **PARAMETERS[operation], **more)


@check
def every_operation_that_names_a_table_is_tried_here():
    answered = [name for name, row in operations_of_the_page().items() if "| yes |" in row]
    shapes = {name: MODEL.operation_model(name).input_shape for name in answered}
    equal({name for name, shape in shapes.items() if shape and "TableName" in shape.members}, set(PARAMETERS))


@check
def each_takes_an_arn():
    name = name_of("table")
    arn = arn_of(name)
    equal(ask("CreateTable", arn)["TableDescription"]["TableArn"], arn)
    until_active(db, name)
    told = ask("DescribeTable", arn)["Table"]
    equal((told["TableName"], told["TableArn"]), (name, arn))
    equal([index["IndexArn"] for index in told["LocalSecondaryIndexes"]], [f"{arn}/index/by-word"])
    ask("PutItem", arn)
    ask("UpdateItem", arn)
    equal(item_of(db, name, KEY), ITEM)
    equal(ask("GetItem", arn)["Item"], ITEM)
    for more in [{}, {"IndexName": "by-word"}]:
        equal(ask("Query", arn, **more)["Items"], [ITEM])
        equal(ask("Scan", arn, **more)["Items"], [ITEM])
    equal(ask("DeleteItem", arn)["Attributes"], ITEM)
    equal(item_of(db, name, KEY), None)
    ask("UpdateTimeToLive", arn)
    for operation, part in [("DescribeTimeToLive", "TimeToLiveDescription"), ("DescribeContinuousBackups", "ContinuousBackupsDescription")]:
        equal(ask(operation, arn)[part], ask(operation, name)[part])
    equal(ask("DescribeTimeToLive", name)["TimeToLiveDescription"]["AttributeName"], "expires")
    ask("UpdateTable", arn)
    until_active(db, name)
    equal(db.describe_table(TableName=name)["Table"]["TableClassSummary"]["TableClass"], "STANDARD_INFREQUENT_ACCESS")
    equal(ask("DeleteTable", arn)["TableDescription"]["TableName"], name)
    db.get_waiter("table_not_exists").wait(TableName=arn, WaiterConfig={"Delay": 1, "MaxAttempts": 60})


@check
def batches_take_arns():
    name = create(db, name_of("batches"), "S", "N")
    arn = arn_of(name)
    equal(db.batch_write_item(RequestItems={arn: [{"PutRequest": {"Item": ITEM}}]})["UnprocessedItems"], {})
    equal(db.batch_get_item(RequestItems={name: {"Keys": [KEY], "ConsistentRead": True}})["Responses"], {name: [ITEM]})
    equal(db.batch_get_item(RequestItems={arn: {"Keys": [KEY], "ConsistentRead": True}})["Responses"], {arn: [ITEM]})
    equal(db.batch_write_item(RequestItems={arn: [{"DeleteRequest": {"Key": KEY}}]})["UnprocessedItems"], {})
    equal(item_of(db, name, KEY), None)


@check
def arns_of_others_name_nothing():
    name = create(db, name_of("own"), "S", "N")
    db.put_item(TableName=name, Item=ITEM)
    parts = arn_of(name).split(":")
    elsewhere = [":".join([*parts[:3], "elsewhere", *parts[4:]]), ":".join([*parts[:4], "nobody", *parts[5:]])]
    for foreign in elsewhere:
        for operation in PARAMETERS:
            kind = {"CreateTable": "ValidationException", "DescribeContinuousBackups": "TableNotFoundException"}
            with refused(kind.get(operation, "ResourceNotFoundException")):
                ask(operation, foreign)
        with refused("ResourceNotFoundException"):
            db.batch_get_item(RequestItems={foreign: {"Keys": [KEY]}})
        with refused("ResourceNotFoundException"):
            db.batch_write_item(RequestItems={foreign: [{"DeleteRequest": {"Key": KEY}}]})
    equal(item_of(db, name, KEY), ITEM)


@check
def what_is_no_arn_of_a_table():
    good = arn_of(name_of("own"))
    for wrong in ["arn:", "arn:aws:s3:::bucket", good.replace(":table/", ":stream/"), good.rsplit(":", 1)[0]]:
        for operation in PARAMETERS:
            with refused("ValidationException", part="Invalid TableArn"):
                ask(operation, wrong)


run()
