"""The protocol as applications use it: boto3's resource with its conditions and batch writer, collections, paginators, and aws-cli."""

import json
import os
from decimal import Decimal

from boto3.dynamodb.conditions import Attr, Key
from botocore.exceptions import ClientError

from checks import aws, check, equal, fresh, resource, run, until

db = resource()


def name_of(word):
    return f"applications.{word}.{os.getpid()}"


def made(word):
    """A table as a tutorial makes it."""
    table = db.create_table(
        TableName=name_of(word),
        KeySchema=[{"AttributeName": "artist", "KeyType": "HASH"}, {"AttributeName": "year", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": "artist", "AttributeType": "S"}, {"AttributeName": "year", "AttributeType": "N"}],
        BillingMode="PAY_PER_REQUEST",
    )
    table.wait_until_exists(WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    return table


@check
def a_tutorial():
    table = made("tutorial")
    table.reload()
    equal(table.table_status, "ACTIVE")
    for year in range(1960, 1970):
        table.put_item(Item={"artist": "Ada", "year": year, "sold": Decimal(year) / 10, "genres": {"jazz", "pop"} if year % 2 else {"jazz"}})
    equal(table.get_item(Key={"artist": "Ada", "year": 1961})["Item"]["genres"], {"jazz", "pop"})
    found = table.query(KeyConditionExpression=Key("artist").eq("Ada") & Key("year").between(1962, 1964), ScanIndexForward=False)
    equal([int(item["year"]) for item in found["Items"]], [1964, 1963, 1962])
    condition = Attr("genres").contains("pop") & Attr("sold").gte(Decimal("196.5")) & ~Attr("year").eq(1967)
    equal(sorted(int(item["year"]) for item in table.scan(FilterExpression=condition)["Items"]), [1965, 1969])
    told = table.update_item(
        Key={"artist": "Ada", "year": 1960},
        UpdateExpression="SET #s = #s + :more, notes = list_append(if_not_exists(notes, :none), :note)",
        ExpressionAttributeNames={"#s": "sold"},
        ExpressionAttributeValues={":more": 1, ":none": [], ":note": ["again"]},
        ConditionExpression=Attr("sold").lt(200),
        ReturnValues="ALL_NEW",
    )["Attributes"]
    equal((told["sold"], told["notes"]), (Decimal(197), ["again"]))
    try:
        table.delete_item(Key={"artist": "Ada", "year": 1960}, ConditionExpression=Attr("sold").gt(1000))
    except ClientError as error:
        equal(error.response["Error"]["Code"], "ConditionalCheckFailedException")
    else:
        raise AssertionError("was not refused")
    table.delete()
    table.wait_until_not_exists(WaiterConfig={"Delay": 1, "MaxAttempts": 60})


@check
def local_indexes():
    table = db.create_table(
        TableName=name_of("indexes"),
        KeySchema=[{"AttributeName": "artist", "KeyType": "HASH"}, {"AttributeName": "title", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind in [("artist", "S"), ("title", "S"), ("year", "N")]],
        LocalSecondaryIndexes=[
            {
                "IndexName": "by-year",
                "KeySchema": [{"AttributeName": "artist", "KeyType": "HASH"}, {"AttributeName": "year", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["sold"]},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    table.wait_until_exists(WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    equal([index["IndexName"] for index in table.local_secondary_indexes], ["by-year"])
    with table.batch_writer() as batch:
        for number in range(50):
            batch.put_item(Item={"artist": f"a{number % 2}", "title": f"t{number:02}", "year": 2000 - number // 4, "sold": number, "genres": {"jazz"}})
        batch.put_item(Item={"artist": "a0", "title": "never published"})
    condition = Key("artist").eq("a0") & Key("year").between(1995, 1998)
    found = table.query(IndexName="by-year", KeyConditionExpression=condition, FilterExpression=Attr("sold").gt(10), ConsistentRead=True)["Items"]
    equal([(int(item["year"]), item["title"]) for item in found], [(year, title) for year in range(1995, 1998) for title in (f"t{(2000 - year) * 4:02}", f"t{(2000 - year) * 4 + 2:02}")])
    equal(set(found[0]), {"artist", "title", "year", "sold"})
    equal(table.query(IndexName="by-year", KeyConditionExpression=condition, Select="ALL_ATTRIBUTES", ConsistentRead=True)["Items"][0]["genres"], {"jazz"})
    equal(table.scan(IndexName="by-year", ConsistentRead=True)["Count"], 50)
    table.delete()


@check
def the_batch_writer():
    table = made("writer")
    with table.batch_writer(overwrite_by_pkeys=["artist", "year"]) as batch:
        for number in range(130):
            batch.put_item(Item={"artist": f"a{number % 7}", "year": number, "n": number})
        batch.put_item(Item={"artist": "a0", "year": 0, "n": 1000})
        batch.delete_item(Key={"artist": "a1", "year": 1})
    items = table.scan(ConsistentRead=True)["Items"]
    equal(len(items), 129)
    equal(table.get_item(Key={"artist": "a0", "year": 0}, ConsistentRead=True)["Item"]["n"], 1000)
    read = db.batch_get_item(RequestItems={table.name: {"Keys": [{"artist": "a2", "year": 2}, {"artist": "a1", "year": 1}]}})
    equal([int(item["n"]) for item in read["Responses"][table.name]], [2])
    table.delete()


@check
def every_condition_of_boto3():
    table, key = made("conditions"), {"artist": fresh(), "year": 1}
    table.put_item(Item={**key, "n": 5, "s": "bcd", "l": [1, "x"], "set": {"a"}, "m": {"x": 1}, "name": "reserved"})
    every = [
        Attr("n").eq(5),
        Attr("n").ne(6),
        Attr("n").lt(6),
        Attr("n").lte(5),
        Attr("n").gt(4),
        Attr("n").gte(5),
        Attr("n").between(4, 6),
        Attr("n").is_in([1, 5]),
        Attr("s").begins_with("bc"),
        Attr("s").contains("c"),
        Attr("set").contains("a"),
        Attr("l").size().eq(2),
        Attr("m.x").exists(),
        Attr("nothing").not_exists(),
        Attr("l").attribute_type("L"),
        Attr("name").eq("reserved"),
        Attr("l[1]").eq("x"),
        (Attr("n").eq(1) | Attr("s").eq("bcd")) & ~Attr("n").eq(7),
    ]
    wrong = []
    for condition in every:
        if table.scan(FilterExpression=condition, ConsistentRead=True)["Count"] != 1:
            wrong.append(condition.get_expression())
    assert not wrong, wrong
    table.delete()


@check
def collections_and_attributes():
    table = made("listed")
    assert table.name in [one.name for one in db.tables.all()]
    table.put_item(Item={"artist": "x", "year": 1})
    equal([part["AttributeName"] for part in table.key_schema], ["artist", "year"])
    until("the item is counted", lambda: table.reload() or table.item_count == 1)
    table.delete()


@check
def aws_cli():
    name = name_of("cli")
    definition = ["--attribute-definitions", "AttributeName=id,AttributeType=S", "--key-schema", "AttributeName=id,KeyType=HASH"]
    made_table = aws("create-table", "--table-name", name, *definition, "--billing-mode", "PAY_PER_REQUEST")
    equal(made_table["TableDescription"]["TableName"], name)

    def is_active():
        return aws("describe-table", "--table-name", name)["Table"]["TableStatus"] == "ACTIVE"

    until("the table is active", is_active)
    aws("wait", "table-exists", "--table-name", name)
    aws("put-item", "--table-name", name, "--item", '{"id":{"S":"ada"},"born":{"N":"1815"},"tags":{"SS":["a","b"]}}')
    read = aws("get-item", "--table-name", name, "--key", '{"id":{"S":"ada"}}', "--consistent-read")["Item"]
    equal((read["born"], sorted(read["tags"]["SS"])), ({"N": "1815"}, ["a", "b"]))
    values = ["--expression-attribute-values", '{":one":{"N":"1"}}']
    told = aws("update-item", "--table-name", name, "--key", '{"id":{"S":"ada"}}', "--update-expression", "ADD born :one", *values, "--return-values", "UPDATED_NEW")
    equal(told["Attributes"], {"born": {"N": "1816"}})
    refused = aws("put-item", "--table-name", name, "--item", '{"id":{"S":"ada"}}', "--condition-expression", "attribute_not_exists(id)", code=255)
    assert "(ConditionalCheckFailedException)" in refused and "The conditional request failed" in refused, refused
    equal(aws("scan", "--table-name", name, "--consistent-read")["Count"], 1)
    assert name in aws("list-tables")["TableNames"]
    aws("delete-table", "--table-name", name)


@check
def aws_cli_and_a_local_index():
    name = name_of("cli.index")
    definition = ["--attribute-definitions", *(f"AttributeName={attribute},AttributeType={kind}" for attribute, kind in [("id", "S"), ("at", "N"), ("rank", "N")])]
    definition += ["--key-schema", "AttributeName=id,KeyType=HASH", "AttributeName=at,KeyType=RANGE"]
    index = "IndexName=by-rank,KeySchema=[{AttributeName=id,KeyType=HASH},{AttributeName=rank,KeyType=RANGE}],Projection={ProjectionType=KEYS_ONLY}"
    aws("create-table", "--table-name", name, *definition, "--local-secondary-indexes", index, "--billing-mode", "PAY_PER_REQUEST")
    aws("wait", "table-exists", "--table-name", name)
    for at, rank in [(1, 30), (2, 10), (3, 20)]:
        aws("put-item", "--table-name", name, "--item", json.dumps({"id": {"S": "a"}, "at": {"N": str(at)}, "rank": {"N": str(rank)}, "more": {"S": "x"}}))
    values = ["--expression-attribute-values", '{":id":{"S":"a"},":n":{"N":"10"}}', "--expression-attribute-names", '{"#r":"rank"}']
    query = ["query", "--table-name", name, "--index-name", "by-rank", "--key-condition-expression", "id = :id AND #r > :n", *values, "--consistent-read"]
    items = aws(*query)["Items"]
    equal([item["at"]["N"] for item in items], ["3", "1"])
    equal(set(items[0]), {"id", "at", "rank"})
    equal([item["at"]["N"] for item in aws(*query, "--no-scan-index-forward", "--page-size", "1")["Items"]], ["1", "3"])
    aws("delete-table", "--table-name", name)


run()
