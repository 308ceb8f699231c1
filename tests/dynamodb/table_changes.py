"""What is changed of a table while it is there, in combinations: capacity, billing, class and protection by UpdateTable, the time to live, and
tags. And what is refused of it, by which nothing changes."""

import os
import time

from checks import check, client, create, definitions, equal, item_of, key_schema, refused, run, until, until_active

db = client()
INVALID = "One or more parameter values were invalid: "
NO_CAPACITY = INVALID + "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST"
TIMES = ("LastIncreaseDateTime", "LastDecreaseDateTime")


def name_of(word):
    return f"table_changes.{word}.{os.getpid()}"


def described(name):
    return db.describe_table(TableName=name)["Table"]


def units(read, write):
    return {"ReadCapacityUnits": read, "WriteCapacityUnits": write}


def change(name, **wanted):
    """Changes a table; how it is described at once, and when it is active again."""
    answer = db.update_table(TableName=name, **wanted)["TableDescription"]
    until_active(db, name)
    return answer, described(name)


def told_units(table):
    return {name: table["ProvisionedThroughput"][name] for name in units(0, 0)}


def billing(table):
    return table.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")


@check
def capacity_and_billing_together():
    name = create(db, name_of("billing"))
    equal((billing(described(name)), told_units(described(name))), ("PAY_PER_REQUEST", units(0, 0)))
    for wrong, text in [
        ({"ProvisionedThroughput": units(1, 1)}, NO_CAPACITY),
        ({"BillingMode": "PAY_PER_REQUEST", "ProvisionedThroughput": units(1, 1)}, NO_CAPACITY),
        ({"BillingMode": "PROVISIONED"}, INVALID + "ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED"),
    ]:
        with refused("ValidationException", text):
            db.update_table(TableName=name, **wrong)
    db.update_table(TableName=name, BillingMode="PAY_PER_REQUEST")
    equal((billing(described(name)), told_units(described(name))), ("PAY_PER_REQUEST", units(0, 0)))
    answer, table = change(name, BillingMode="PROVISIONED", ProvisionedThroughput=units(5, 6))
    equal((answer["TableStatus"], told_units(answer), billing(answer)), ("UPDATING", units(5, 6), "PROVISIONED"))
    equal((table["TableStatus"], told_units(table), billing(table)), ("ACTIVE", units(5, 6), "PROVISIONED"))
    for same in [{}, {"BillingMode": "PROVISIONED"}]:
        with refused("ValidationException", part="The provisioned throughput for the table will not change."):
            db.update_table(TableName=name, ProvisionedThroughput=units(5, 6), **same)
    _, table = change(name, BillingMode="PAY_PER_REQUEST")
    equal((billing(table), told_units(table)), ("PAY_PER_REQUEST", units(0, 0)))
    assert table["BillingModeSummary"]["LastUpdateToPayPerRequestDateTime"] >= table["CreationDateTime"], table


@check
def raised_and_lowered():
    name = create(db, name_of("throughput"), BillingMode="PROVISIONED", ProvisionedThroughput=units(5, 5))
    assert not any(at in described(name)["ProvisionedThroughput"] for at in TIMES), described(name)
    _, table = change(name, ProvisionedThroughput=units(6, 5))
    throughput = table["ProvisionedThroughput"]
    equal((told_units(table), [at for at in TIMES if at in throughput], throughput["NumberOfDecreasesToday"]), (units(6, 5), [TIMES[0]], 0))
    # One of them up and the other down is both.
    _, table = change(name, ProvisionedThroughput=units(7, 4))
    throughput = table["ProvisionedThroughput"]
    equal((told_units(table), [at for at in TIMES if at in throughput]), (units(7, 4), list(TIMES)))
    _, table = change(name, BillingMode="PROVISIONED", ProvisionedThroughput=units(1, 1))
    # The day may just have changed.
    assert table["ProvisionedThroughput"]["NumberOfDecreasesToday"] in (1, 2), table


@check
def everything_at_once():
    name = create(db, name_of("everything"))
    wanted = {"BillingMode": "PROVISIONED", "ProvisionedThroughput": units(3, 4), "TableClass": "STANDARD_INFREQUENT_ACCESS", "DeletionProtectionEnabled": True}
    off = {"StreamSpecification": {"StreamEnabled": False}, "SSESpecification": {"Enabled": False}, "AttributeDefinitions": definitions(pk="S")}
    for table in change(name, **wanted, **off):
        equal((billing(table), told_units(table)), ("PROVISIONED", units(3, 4)))
        equal((table["TableClassSummary"]["TableClass"], table["DeletionProtectionEnabled"]), ("STANDARD_INFREQUENT_ACCESS", True))
    with refused("ValidationException"):
        db.delete_table(TableName=name)
    _, table = change(name, DeletionProtectionEnabled=False)
    equal((table["DeletionProtectionEnabled"], told_units(table), table["TableClassSummary"]["TableClass"]), (False, units(3, 4), "STANDARD_INFREQUENT_ACCESS"))
    _, table = change(name, TableClass="STANDARD")
    assert table["TableClassSummary"]["TableClass"] == "STANDARD" and table["TableClassSummary"]["LastUpdateDateTime"] >= table["CreationDateTime"], table
    db.delete_table(TableName=name)


@check
def what_is_wrong_changes_nothing():
    name = create(db, name_of("wrong"), BillingMode="PROVISIONED", ProvisionedThroughput=units(2, 2), TableClass="STANDARD_INFREQUENT_ACCESS")
    before = described(name)
    good = {"TableClass": "STANDARD", "DeletionProtectionEnabled": True}
    for wrong, part in [
        ({"ProvisionedThroughput": units(0, 1)}, "'provisionedThroughput.readCapacityUnits' failed to satisfy constraint: Member must have value greater than or equal to 1"),
        ({"ProvisionedThroughput": units(1, -1)}, "'provisionedThroughput.writeCapacityUnits' failed to satisfy constraint: Member must have value greater than or equal to 1"),
        ({"ProvisionedThroughput": {"ReadCapacityUnits": 1}}, "'provisionedThroughput.writeCapacityUnits' failed to satisfy constraint: Member must not be null"),
        ({"ProvisionedThroughput": {}}, "2 validation errors detected"),
        ({"ProvisionedThroughput": units(10**13, 1)}, "Given value 10000000000000 for ReadCapacityUnits is out of bounds"),
        ({"BillingMode": "FOR_FREE"}, "'billingMode' failed to satisfy constraint: Member must satisfy enum value set"),
        ({"BillingMode": "PAY_PER_REQUEST", "ProvisionedThroughput": units(3, 3)}, NO_CAPACITY),
    ]:
        with refused("ValidationException", part=part):
            db.update_table(TableName=name, **good, **wrong)
    with refused("ValidationException", part="'tableClass' failed to satisfy constraint: Member must satisfy enum value set"):
        db.update_table(TableName=name, TableClass="ON_TAPE", ProvisionedThroughput=units(3, 3))
    with refused("ValidationException", part="2 validation errors detected"):
        db.update_table(TableName=name, TableClass="ON_TAPE", BillingMode="FOR_FREE")
    for nothing in [{}, {"AttributeDefinitions": definitions(pk="S")}, {"GlobalSecondaryIndexUpdates": []}]:
        with refused("ValidationException", part="At least one of ProvisionedThroughput, BillingMode"):
            db.update_table(TableName=name, **nothing)
    with refused("ResourceNotFoundException", "Requested resource not found: Table: nowhere not found"):
        db.update_table(TableName="nowhere", ProvisionedThroughput=units(3, 3))
    equal(described(name), before)


@check
def what_is_off_may_be_said_to_be_off():
    name = name_of("off")
    off = {"StreamSpecification": {"StreamEnabled": False}, "SSESpecification": {"Enabled": False}}
    create(db, name, **off)
    for given in [off, *({part: off[part]} for part in off)]:
        answer, table = change(name, **given)
        for told in [answer, table]:
            equal((told["TableStatus"], "StreamSpecification" in told, "LatestStreamArn" in told, "SSEDescription" in told), ("ACTIVE", False, False, False))
    stream = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}}
    keys = [{"Enabled": True}, {"Enabled": True, "SSEType": "KMS"}, {"SSEType": "KMS", "KMSMasterKeyId": "alias/mine"}]
    for on in [stream, *({"SSESpecification": one} for one in keys)]:
        (part,) = on
        with refused("ValidationException", part=part):
            db.update_table(TableName=name, DeletionProtectionEnabled=True, **on)
        with refused("ValidationException", part=part):
            create(db, name_of("on"), **on)
    equal(described(name)["DeletionProtectionEnabled"], False)
    with refused("ResourceNotFoundException"):
        described(name_of("on"))


# What there is not, for both operations, with something that each of them takes at AWS.
NOT_THERE = {
    "OnDemandThroughput": {"MaxReadRequestUnits": 5, "MaxWriteRequestUnits": 5},
    "WarmThroughput": {"ReadUnitsPerSecond": 20000, "WriteUnitsPerSecond": 5000},
    "GlobalTableSettingsReplicationMode": "ENABLED",
}


@check
def what_is_not_there_is_refused_by_its_name():
    name = create(db, name_of("absent"))
    index = {"IndexName": "by-other", "KeySchema": key_schema("other", "pk"), "Projection": {"ProjectionType": "ALL"}}
    updates = {
        **NOT_THERE,
        "GlobalSecondaryIndexUpdates": [{"Create": index}],
        "ReplicaUpdates": [{"Create": {"RegionName": "eu-west-1"}}],
        "MultiRegionConsistency": "STRONG",
        "GlobalTableWitnessUpdates": [{"Create": {"RegionName": "eu-west-1"}}],
    }
    for part, value in updates.items():
        with refused("ValidationException", part=f"{part} is not supported"):
            db.update_table(TableName=name, DeletionProtectionEnabled=True, **{part: value})
    equal(described(name)["DeletionProtectionEnabled"], False)
    creations = {**NOT_THERE, "ResourcePolicy": "{}", "GlobalTableSourceArn": described(name)["TableArn"]}
    for part, value in creations.items():
        with refused("ValidationException", part=f"{part} is not supported"):
            create(db, name_of("never"), **{part: value})
    with refused("ResourceNotFoundException"):
        described(name_of("never"))


@check
def time_to_live_is_switched_off():
    name = create(db, name_of("ttl"))

    def switch(attribute, is_on):
        wanted = {"Enabled": is_on, "AttributeName": attribute}
        equal(db.update_time_to_live(TableName=name, TimeToLiveSpecification=wanted)["TimeToLiveSpecification"], wanted)

    def told():
        return db.describe_time_to_live(TableName=name)["TimeToLiveDescription"]

    def there():
        return {item["pk"]["S"] for item in db.scan(TableName=name, ConsistentRead=True)["Items"]}

    with refused("ValidationException", "TimeToLive is already disabled"):
        switch("expires", False)
    switch("expires", True)
    equal(told(), {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"})
    for is_on in [False, True]:
        with refused("ValidationException", "TimeToLive is active on a different AttributeName: current AttributeName is expires"):
            switch("ends", is_on)
    switch("expires", False)
    equal(told(), {"TimeToLiveStatus": "DISABLED"})
    past = {"N": str(int(time.time()) - 60)}
    db.put_item(TableName=name, Item={"pk": {"S": "a"}, "expires": past})
    db.put_item(TableName=name, Item={"pk": {"S": "b"}, "ends": past})
    until("no item expires any more", lambda: there() == {"a", "b"})
    equal(item_of(db, name, {"pk": {"S": "a"}})["expires"], past)
    switch("ends", True)
    equal(told(), {"TimeToLiveStatus": "ENABLED", "AttributeName": "ends"})
    until("the other attribute counts now", lambda: there() == {"a"})
    switch("ends", False)


@check
def what_is_no_time_to_live():
    name = create(db, name_of("nottl"))
    for wrong, part in [
        (None, "'timeToLiveSpecification' failed to satisfy constraint: Member must not be null"),
        ({"AttributeName": "a"}, "'timeToLiveSpecification.enabled' failed to satisfy constraint: Member must not be null"),
        ({"Enabled": True}, "'timeToLiveSpecification.attributeName' failed to satisfy constraint: Member must not be null"),
        ({"Enabled": True, "AttributeName": ""}, "'timeToLiveSpecification.attributeName' failed to satisfy constraint: Member must have length greater than or equal to 1"),
        ({"Enabled": True, "AttributeName": "x" * 256}, "'timeToLiveSpecification.attributeName' failed to satisfy constraint: Member must have length less than or equal to 255"),
        ({}, "2 validation errors detected"),
    ]:
        with refused("ValidationException", part=part):
            db.update_time_to_live(TableName=name, **({} if wrong is None else {"TimeToLiveSpecification": wrong}))
    for ask in [db.describe_time_to_live, lambda **more: db.update_time_to_live(TimeToLiveSpecification={"Enabled": True, "AttributeName": "a"}, **more)]:
        with refused("ResourceNotFoundException", "Requested resource not found: Table: nowhere not found"):
            ask(TableName="nowhere")
    equal(db.describe_time_to_live(TableName=name)["TimeToLiveDescription"], {"TimeToLiveStatus": "DISABLED"})


def tag(number, value="v"):
    return {"Key": f"key{number}", "Value": value}


def tags_of(arn):
    return {tag["Key"]: tag["Value"] for tag in db.list_tags_of_resource(ResourceArn=arn)["Tags"]}


@check
def fifty_tags():
    name = create(db, name_of("tags"), Tags=[tag(number) for number in range(50)])
    arn = described(name)["TableArn"]
    full = {f"key{number}": "v" for number in range(50)}
    equal(tags_of(arn), full)
    for over in [[tag(50)], [tag(0, "other"), tag(50)]]:
        with refused("ValidationException", part="50 tags"):
            db.tag_resource(ResourceArn=arn, Tags=over)
    equal(tags_of(arn), full)
    # What is there already may have another value.
    db.tag_resource(ResourceArn=arn, Tags=[tag(number, "w") for number in range(50)])
    equal(tags_of(arn), {key: "w" for key in full})
    db.untag_resource(ResourceArn=arn, TagKeys=["key0", "key1"])
    db.tag_resource(ResourceArn=arn, Tags=[tag(50), tag(51)])
    equal(len(tags_of(arn)), 50)
    db.untag_resource(ResourceArn=arn, TagKeys=list(tags_of(arn)))
    equal(tags_of(arn), {})
    with refused("ValidationException", part="50 tags"):
        create(db, name_of("toomany"), Tags=[tag(number) for number in range(51)])
    with refused("ResourceNotFoundException"):
        described(name_of("toomany"))


@check
def tags_that_are_none():
    name = create(db, name_of("nottags"))
    arn = described(name)["TableArn"]
    longest = {"Key": "k" * 128, "Value": "ä" * 256}
    db.tag_resource(ResourceArn=arn, Tags=[longest])
    for wrong, part in [
        ([], "Atleast one Tag needs to be provided as Input."),
        ([{"Key": "", "Value": "v"}], "'tags.1.member.key' failed to satisfy constraint: Member must have length greater than or equal to 1"),
        ([tag(1), {"Key": "k" * 129, "Value": "v"}], "'tags.2.member.key' failed to satisfy constraint: Member must have length less than or equal to 128"),
        ([{"Key": "k", "Value": "v" * 257}], "'tags.1.member.value' failed to satisfy constraint: Member must have length less than or equal to 256"),
        ([{"Key": "k"}], "'tags.1.member.value' failed to satisfy constraint: Member must not be null"),
        ([tag(1), tag(1)], "Duplicate tag key: key1"),
        ([tag(1), {"Key": "aws:mine", "Value": "v"}], "aws:"),
    ]:
        with refused("ValidationException", part=part):
            db.tag_resource(ResourceArn=arn, Tags=wrong)
    with refused("ValidationException", "Atleast one Tag Key needs to be provided as Input."):
        db.untag_resource(ResourceArn=arn, TagKeys=[])
    with refused("ValidationException", part="NextToken"):
        db.list_tags_of_resource(ResourceArn=arn, NextToken="x")
    for wrong, part in [([tag(1), tag(1)], "Duplicate tag key: key1"), ([tag(1), {"Key": "aws:mine", "Value": "v"}], "aws:")]:
        with refused("ValidationException", part=part):
            create(db, name_of("never"), Tags=wrong)
    equal(tags_of(arn), {longest["Key"]: longest["Value"]})


run()
