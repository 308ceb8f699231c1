"""Two doors to one house: what REST makes is seen by the DynamoDB protocol, and the other way round."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request

from checks import URL, check, client, create, equal, fresh, local_index, refused, run, until, until_active

db = client()
TENANT = f"{URL}/v1/tenant/{os.environ['DSTORE_TENANT']}"


def rest(method, path, body=None):
    """Status and JSON of a REST answer."""
    headers = {"Authorization": f"Bearer {os.environ['DSTORE_TOKEN']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{TENANT}{path}", data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text, status = answer.read(), answer.status
    except urllib.error.HTTPError as error:
        text, status = error.read(), error.code
    return status, json.loads(text) if text else None


def name_of(word):
    return f"doors.{word}.{os.getpid()}"


@check
def a_table_made_by_rest():
    name = name_of("rest")
    equal(rest("PUT", f"/table/{name}", {"id_type": "Bytes", "sort_type": "Integer", "id_name": "who", "sort_name": "when"})[0], 201)
    until_active(db, name)
    table = db.describe_table(TableName=name)["Table"]
    equal(table["KeySchema"], [{"AttributeName": "who", "KeyType": "HASH"}, {"AttributeName": "when", "KeyType": "RANGE"}])
    kinds = {one["AttributeName"]: one["AttributeType"] for one in table["AttributeDefinitions"]}
    equal(kinds, {"who": "B", "when": "N"})
    assert name in db.list_tables(ExclusiveStartTableName=name[:-1])["TableNames"]
    with refused("ResourceInUseException"):
        create(db, name)
    equal(rest("DELETE", f"/table/{name}")[0], 204)

    def is_gone():
        try:
            return db.describe_table(TableName=name)["Table"]["TableStatus"] == "DELETING"
        except db.exceptions.ResourceNotFoundException:
            return True

    until("the table is gone", is_gone)


@check
def a_table_made_by_dynamodb():
    name = create(db, name_of("dynamodb"), "N", "S")
    status, table = rest("GET", f"/table/{name}")
    equal(status, 200)
    equal([table[field] for field in ["id_type", "id_name", "sort_type", "sort_name"]], ["Integer", "pk", "String", "sk"])
    assert any(one["table"] == name for one in rest("GET", "/table?limit=1000")[1]["tables"]), "it is listed"
    db.delete_table(TableName=name)
    until("REST sees that it is gone", lambda: rest("GET", f"/table/{name}")[0] == 404)


@check
def items_go_both_ways():
    name, key = create(db, name_of("items")), fresh()
    item = {"pk": {"S": key}, "n": {"N": "1.5"}, "l": {"L": [{"BOOL": True}, {"NULL": True}]}, "m": {"M": {"x": {"S": "y"}}}}
    db.put_item(TableName=name, Item=item)
    path = f"/table/{name}/id/{urllib.parse.quote(key, safe='')}"
    status, read = rest("GET", path)
    equal(status, 200)
    read.pop("pk", None)
    equal(read, {"n": 1.5, "l": [True, None], "m": {"x": "y"}})
    equal(rest("POST", path, {"n": 2, "new": "by REST"})[0], 200)
    read = db.get_item(TableName=name, Key={"pk": {"S": key}}, ConsistentRead=True)["Item"]
    equal((read["n"], read["new"], read["pk"]), ({"N": "2"}, {"S": "by REST"}, {"S": key}))
    db.update_item(TableName=name, Key={"pk": {"S": key}}, UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": {"N": "1"}})
    equal(rest("GET", path)[1]["n"], 3)
    equal(rest("DELETE", path)[0], 204)
    assert "Item" not in db.get_item(TableName=name, Key={"pk": {"S": key}}, ConsistentRead=True)


@check
def what_rest_stored_with_its_key_is_the_same_item():
    name, key = create(db, name_of("keys")), fresh()
    path = f"/table/{name}/id/{key}"
    equal(rest("PUT", path, {"pk": key, "a": 1})[0], 201)
    equal(db.scan(TableName=name, ConsistentRead=True)["Items"], [{"pk": {"S": key}, "a": {"N": "1"}}])
    told = db.update_item(TableName=name, Key={"pk": {"S": key}}, UpdateExpression="SET b = a", ReturnValues="ALL_NEW")["Attributes"]
    equal(told, {"pk": {"S": key}, "a": {"N": "1"}, "b": {"N": "1"}})


@check
def sort_keys_go_both_ways():
    name = create(db, name_of("sorted"), "S", "N")
    for number in [3, 1, 2]:
        equal(rest("PUT", f"/table/{name}/id/ada/sort/{number}", {"n": number})[0], 201)
    values = {":a": {"S": "ada"}, ":one": {"N": "1"}}
    page = db.query(TableName=name, KeyConditionExpression="pk = :a AND sk > :one", ExpressionAttributeValues=values, ConsistentRead=True)
    equal([item["sk"]["N"] for item in page["Items"]], ["2", "3"])
    listed = rest("GET", f"/table/{name}/id/ada?sort_from=1&sort_to=2")[1]["items"]
    equal([one["item"]["n"] for one in listed], [1, 2])


@check
def a_condition_of_one_door_sees_the_other():
    name, key = create(db, name_of("conditions")), fresh()
    path = f"/table/{name}/id/{key}"
    equal(rest("PUT", path, {"v": 1})[0], 201)
    with refused("ConditionalCheckFailedException"):
        db.put_item(TableName=name, Item={"pk": {"S": key}}, ConditionExpression="attribute_not_exists(pk)")
    db.put_item(TableName=name, Item={"pk": {"S": key}, "v": {"N": "2"}}, ConditionExpression="v = :v", ExpressionAttributeValues={":v": {"N": "1"}})
    equal(rest("GET", path)[1]["v"], 2)


def order(name, index, pk):
    """The sort keys of the items that an index has of a partition."""
    ask = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": {"S": pk}}, "ConsistentRead": True}
    return [int(item["sk"]["N"]) for item in db.query(TableName=name, IndexName=index, **ask)["Items"]]


@check
def local_indexes_made_by_rest():
    name = name_of("indexes")
    indexes = [
        {"name": "by-word", "attribute": "word", "key_type": "String", "projection": "keys-only"},
        {"name": "by-n", "attribute": "n", "key_type": "Integer", "projection": {"include": ["note"]}},
        {"name": "by-n-all", "attribute": "n", "key_type": "Integer"},
    ]
    definition = {"id_type": "String", "sort_type": "Integer", "id_name": "pk", "sort_name": "sk", "local_indexes": indexes}
    equal(rest("PUT", f"/table/{name}", definition)[0], 201)
    equal(rest("PUT", f"/table/{name}", definition)[0], 200)
    equal(rest("PUT", f"/table/{name}", {**definition, "local_indexes": indexes[:2]})[0], 409)
    until_active(db, name)
    told = {index["IndexName"]: index for index in db.describe_table(TableName=name)["Table"]["LocalSecondaryIndexes"]}
    for index in [("by-word", "word", "S", "KEYS_ONLY"), ("by-n", "n", "N", ["note"]), ("by-n-all", "n", "N", "ALL")]:
        wanted = local_index(*index)
        equal({part: told[index[0]][part] for part in wanted}, wanted)
    path = f"/table/{name}/id/ada/sort"
    for number in [1, 2, 3]:
        equal(rest("PUT", f"{path}/{number}", {"word": f"w{number}", "n": -number})[0], 201)
    equal((order(name, "by-word", "ada"), order(name, "by-n", "ada")), ([1, 2, 3], [3, 2, 1]))
    # A merge moves an item and takes one out; what no index can hold is refused, by whatever way it comes.
    equal(rest("POST", f"{path}/1", {"word": "z", "n": None})[0], 200)
    equal((order(name, "by-word", "ada"), order(name, "by-n-all", "ada")), ([2, 3, 1], [3, 2]))
    for method in ["PUT", "POST"]:
        for wrong in [{"word": 1}, {"word": ""}, {"word": "x" * 1025}, {"n": "1"}, {"n": {"x": 1}}]:
            equal((method, wrong, rest(method, f"{path}/2", wrong)[0]), (method, wrong, 400))
    equal(rest("GET", f"{path}/2")[1]["n"], -2)
    equal(rest("DELETE", f"{path}/2")[0], 204)
    equal((order(name, "by-word", "ada"), order(name, "by-n", "ada")), ([3, 1], [3]))


@check
def local_indexes_made_by_dynamodb():
    name = create(db, name_of("indexed"), "S", "N", [("by-word", "word", "S", "ALL"), ("by-mark", "mark", "B", ["a", "b"])])
    wanted = [
        {"name": "by-word", "attribute": "word", "key_type": "String", "projection": "all"},
        {"name": "by-mark", "attribute": "mark", "key_type": "Bytes", "projection": {"include": ["a", "b"]}},
    ]
    equal(rest("GET", f"/table/{name}")[1]["local_indexes"], wanted)
    equal(rest("PUT", f"/table/{name}/id/ada/sort/7", {"word": "w", "mark": {"$binary": "AAE="}})[0], 201)
    equal((order(name, "by-word", "ada"), order(name, "by-mark", "ada")), ([7], [7]))


run()
