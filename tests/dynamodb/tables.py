"""Tables: made, waited for, described, listed, changed, tagged, expired, deleted."""

import os
import time

from checks import check, client, create, equal, fresh, item_of, refused, run, until, until_active

db = client()


def name_of(word):
    return f"tables.{word}.{os.getpid()}"


def key_schema(hash_name="pk", range_name=None):
    schema = [{"AttributeName": hash_name, "KeyType": "HASH"}]
    return schema + ([{"AttributeName": range_name, "KeyType": "RANGE"}] if range_name else [])


def attributes(**types):
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]


def described(name):
    return db.describe_table(TableName=name)["Table"]


@check
def create_wait_describe_delete():
    name = name_of("life")
    made = db.create_table(
        TableName=name,
        AttributeDefinitions=attributes(pk="S", sk="N"),
        KeySchema=key_schema("pk", "sk"),
        BillingMode="PAY_PER_REQUEST",
    )["TableDescription"]
    assert made["TableStatus"] in ("CREATING", "ACTIVE"), made
    db.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    table = described(name)
    equal(table["TableStatus"], "ACTIVE")
    equal(table["TableName"], name)
    equal(table["KeySchema"], key_schema("pk", "sk"))
    equal(sorted(table["AttributeDefinitions"], key=lambda one: one["AttributeName"]), attributes(pk="S", sk="N"))
    equal((table["ItemCount"], table["TableSizeBytes"]), (0, 0))
    equal(table["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST")
    equal((table["ProvisionedThroughput"]["ReadCapacityUnits"], table["ProvisionedThroughput"]["WriteCapacityUnits"]), (0, 0))
    assert table["TableArn"].startswith("arn:aws:dynamodb:") and table["TableArn"].endswith(f":table/{name}"), table["TableArn"]
    assert table["TableId"] and table["CreationDateTime"], table
    db.put_item(TableName=name, Item={"pk": {"S": "a"}, "sk": {"N": "1"}})
    gone = db.delete_table(TableName=name)["TableDescription"]
    equal((gone["TableName"], gone["TableStatus"]), (name, "DELETING"))
    for absent in ["KeySchema", "AttributeDefinitions", "CreationDateTime"]:
        assert absent not in gone, f"{absent} in {gone}"
    db.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    with refused("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found"):
        described(name)
    with refused("ResourceNotFoundException", f"Requested resource not found: Table: {name} not found"):
        db.delete_table(TableName=name)


@check
def a_name_can_be_used_again():
    name = name_of("again")
    create(db, name)
    first = described(name)["TableId"]
    db.put_item(TableName=name, Item={"pk": {"S": "old"}})
    db.delete_table(TableName=name)
    db.get_waiter("table_not_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    create(db, name, "N")
    assert described(name)["TableId"] != first
    equal(db.scan(TableName=name, ConsistentRead=True)["Count"], 0)
    db.delete_table(TableName=name)


@check
def create_twice():
    name = create(db, name_of("twice"))
    with refused("ResourceInUseException", f"Table already exists: {name}"):
        create(db, name)
    with refused("ResourceInUseException"):
        create(db, name, "N")


@check
def what_create_refuses():
    def attempt(name="whatever", schema=None, definitions=None, **more):
        settings = {"BillingMode": "PAY_PER_REQUEST", **more}
        db.create_table(TableName=name, KeySchema=schema or key_schema(), AttributeDefinitions=definitions or attributes(pk="S"), **settings)

    with refused("ValidationException", part="tableName"):
        attempt("ab")
    with refused("ValidationException", part="tableName"):
        attempt("x" * 256)
    with refused("ValidationException", part="tableName"):
        attempt("no spaces")
    with refused("ValidationException", part="Some index key attributes are not defined in AttributeDefinitions"):
        attempt(schema=key_schema("other"))
    with refused("ValidationException", part="Number of attributes in KeySchema does not exactly match number of attributes defined in AttributeDefinitions"):
        attempt(definitions=attributes(pk="S", more="S"))
    with refused("ValidationException"):
        attempt(schema=[{"AttributeName": "pk", "KeyType": "RANGE"}])
    with refused("ValidationException"):
        attempt(schema=key_schema("pk", "pk"))
    with refused("ValidationException", part="attributeType"):
        attempt(definitions=attributes(pk="BOOL"))
    with refused("ValidationException"):
        attempt(ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1})
    with refused("ValidationException"):
        attempt(BillingMode="PROVISIONED")
    with refused("ValidationException", part="billingMode"):
        attempt(BillingMode="FOR_FREE")


@check
def what_is_not_there_is_refused_openly():
    def attempt(**more):
        db.create_table(
            TableName=name_of("index"),
            AttributeDefinitions=attributes(pk="S", other="S"),
            KeySchema=key_schema(),
            BillingMode="PAY_PER_REQUEST",
            **more,
        )

    index = {"IndexName": "by-other", "KeySchema": key_schema("other"), "Projection": {"ProjectionType": "ALL"}}
    with refused("ValidationException"):
        attempt(GlobalSecondaryIndexes=[index])
    with refused("ValidationException"):
        db.create_table(
            TableName=name_of("stream"),
            AttributeDefinitions=attributes(pk="S"),
            KeySchema=key_schema(),
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
    with refused("ResourceNotFoundException"):
        described(name_of("index"))


@check
def provisioned_tables():
    name = name_of("provisioned")
    create(db, name, BillingMode="PROVISIONED", ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 6})
    throughput = described(name)["ProvisionedThroughput"]
    equal((throughput["ReadCapacityUnits"], throughput["WriteCapacityUnits"], throughput["NumberOfDecreasesToday"]), (5, 6, 0))
    db.update_table(TableName=name, ProvisionedThroughput={"ReadCapacityUnits": 7, "WriteCapacityUnits": 6})
    until_active(db, name)
    equal(described(name)["ProvisionedThroughput"]["ReadCapacityUnits"], 7)
    db.update_table(TableName=name, BillingMode="PAY_PER_REQUEST")
    until_active(db, name)
    equal(described(name)["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST")
    with refused("ResourceNotFoundException"):
        db.update_table(TableName="nowhere", BillingMode="PAY_PER_REQUEST")


@check
def deletion_protection():
    name = create(db, name_of("protected"), DeletionProtectionEnabled=True)
    equal(described(name)["DeletionProtectionEnabled"], True)
    with refused("ValidationException"):
        db.delete_table(TableName=name)
    db.update_table(TableName=name, DeletionProtectionEnabled=False)
    until_active(db, name)
    equal(described(name)["DeletionProtectionEnabled"], False)
    db.delete_table(TableName=name)


@check
def table_class():
    name = create(db, name_of("class"), TableClass="STANDARD_INFREQUENT_ACCESS")
    equal(described(name)["TableClassSummary"]["TableClass"], "STANDARD_INFREQUENT_ACCESS")
    db.update_table(TableName=name, TableClass="STANDARD")
    until_active(db, name)
    equal(described(name).get("TableClassSummary", {}).get("TableClass", "STANDARD"), "STANDARD")


@check
def list_in_pages():
    names = [create(db, name_of(f"list.{letter}")) for letter in "abc"]
    found = [name for page in db.get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 2}) for name in page["TableNames"]]
    equal(found, sorted(found, key=str.encode))
    assert set(names) <= set(found), found
    page = db.list_tables(ExclusiveStartTableName=names[0], Limit=1)
    equal((page["TableNames"], page["LastEvaluatedTableName"]), ([names[1]], names[1]))
    for wrong in [0, 101]:
        with refused("ValidationException", part="limit"):
            db.list_tables(Limit=wrong)


@check
def item_count_is_true():
    name = create(db, name_of("count"))
    for number in range(7):
        db.put_item(TableName=name, Item={"pk": {"S": str(number)}, "a": {"S": "x" * 100}})
    table = until("the items are counted", lambda: (table := described(name))["ItemCount"] == 7 and table)
    assert table["TableSizeBytes"] >= 700, table


@check
def tags():
    name = create(db, name_of("tags"), Tags=[{"Key": "team", "Value": "a"}])
    arn = described(name)["TableArn"]

    def told():
        return {tag["Key"]: tag["Value"] for tag in db.list_tags_of_resource(ResourceArn=arn)["Tags"]}

    equal(told(), {"team": "a"})
    db.tag_resource(ResourceArn=arn, Tags=[{"Key": "team", "Value": "b"}, {"Key": "cost", "Value": ""}])
    equal(told(), {"team": "b", "cost": ""})
    db.untag_resource(ResourceArn=arn, TagKeys=["team", "nothing"])
    equal(told(), {"cost": ""})
    with refused("ResourceNotFoundException"):
        db.list_tags_of_resource(ResourceArn=arn + "x")
    with refused("ValidationException"):
        db.tag_resource(ResourceArn=arn, Tags=[{"Key": "aws:mine", "Value": "x"}])
    with refused("ValidationException"):
        db.tag_resource(ResourceArn="no arn", Tags=[{"Key": "a", "Value": "x"}])


@check
def time_to_live():
    name = create(db, name_of("ttl"))
    equal(db.describe_time_to_live(TableName=name)["TimeToLiveDescription"], {"TimeToLiveStatus": "DISABLED"})
    wish = {"Enabled": True, "AttributeName": "expires"}
    equal(db.update_time_to_live(TableName=name, TimeToLiveSpecification=wish)["TimeToLiveSpecification"], wish)
    told = db.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert told["AttributeName"] == "expires" and told["TimeToLiveStatus"] in ("ENABLING", "ENABLED"), told
    with refused("ValidationException", part="TimeToLive is already enabled"):
        db.update_time_to_live(TableName=name, TimeToLiveSpecification=wish)
    now = int(time.time())
    items = {"past": {"N": str(now - 5)}, "future": {"N": str(now + 3600)}, "text": {"S": str(now - 5)}, "ancient": {"N": str(now - 6 * 366 * 86400)}}
    for pk, expires in items.items():
        db.put_item(TableName=name, Item={"pk": {"S": pk}, "expires": expires})
    db.put_item(TableName=name, Item={"pk": {"S": "never"}})

    def there():
        return {item["pk"]["S"] for item in db.scan(TableName=name, ConsistentRead=True)["Items"]}

    # A time that is no number, or more than five years past, means nothing.
    until("the item of the past is gone, and no other", lambda: there() == {"future", "text", "ancient", "never"})
    assert item_of(db, name, {"pk": {"S": "past"}}) is None


@check
def limits_and_endpoints():
    limits = db.describe_limits()
    for field in ["AccountMaxReadCapacityUnits", "AccountMaxWriteCapacityUnits", "TableMaxReadCapacityUnits", "TableMaxWriteCapacityUnits"]:
        assert limits[field] > 0, limits
    endpoints = db.describe_endpoints()["Endpoints"]
    equal(len(endpoints), 1)
    there = client(f"http://{endpoints[0]['Address']}")
    assert "TableNames" in there.list_tables(), "the address answers the same client"


@check
def continuous_backups():
    name = create(db, name_of("backups"))
    told = db.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    equal(told["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"], "DISABLED")


@check
def names_with_every_letter_that_is_allowed():
    name = create(db, f"aZ09_-.{fresh('t')}")
    db.put_item(TableName=name, Item={"pk": {"S": "a"}})
    equal(db.scan(TableName=name, ConsistentRead=True)["Count"], 1)


run()
