"""Values as they go in and come out: numbers, sets, binary, documents, empty ones, and the limits of each."""

import decimal

from checks import check, client, equal, fresh, item_of, refused, resource, run, table
from boto3.dynamodb.types import Binary

db = client()


def kept(value):
    """A value after it was stored and read."""
    key = {"pk": {"S": fresh()}}
    db.put_item(TableName=table(db), Item={**key, "v": value})
    return item_of(db, table(db), key)["v"]


def goes_through(*values):
    for value in values:
        equal(kept(value), value)


@check
def every_type():
    goes_through(
        {"S": "text"},
        {"N": "1"},
        {"B": bytes(range(256))},
        {"BOOL": True},
        {"BOOL": False},
        {"NULL": True},
        {"L": [{"S": "a"}, {"N": "1"}, {"L": []}, {"M": {}}, {"NULL": True}]},
        {"M": {"a": {"M": {"b": {"L": [{"B": b"x"}]}}}, "": {"S": "an empty name"}, "a.b[0]": {"N": "1"}}},
    )
    equal(sorted(kept({"SS": ["b", "a"]})["SS"]), ["a", "b"])
    equal(sorted(kept({"NS": ["2", "1.50"]})["NS"]), ["1.5", "2"])
    equal(sorted(kept({"BS": [b"\x02", b"\x01"]})["BS"]), [b"\x01", b"\x02"])


@check
def empty_values():
    goes_through({"S": ""}, {"B": b""}, {"L": []}, {"M": {}})
    for kind in ["SS", "NS", "BS"]:
        with refused("ValidationException", part="not be empty"):
            kept({kind: []})


@check
def strings():
    goes_through({"S": "é ü 漢字 😀 \u0000 \u001f \u2028 \\ \" /"}, {"S": "x" * 300_000}, {"S": "é"}, {"S": "e\u0301"})


@check
def numbers_are_exact():
    for text, canonical in [
        ("0", "0"),
        ("-0", "0"),
        ("007", "7"),
        ("1.500", "1.5"),
        ("1e3", "1000"),
        ("-1.5E-3", "-0.0015"),
        ("+4", "4"),
        ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ("0.1234567890123456789012345678901234567", "0.1234567890123456789012345678901234567"),
        ("1E+125", "1" + "0" * 125),
    ]:
        equal(kept({"N": text}), {"N": canonical})
    for text in ["1E-130", "-9.9999999999999999999999999999999999999E+125", "9.9999999999999999999999999999999999999E+125"]:
        equal(decimal.Decimal(kept({"N": text})["N"]), decimal.Decimal(text))


@check
def numbers_that_are_refused():
    for text in ["", "x", "1.2.3", "NaN", "Infinity", "1e", "0x10", "1 2"]:
        with refused("ValidationException"):
            kept({"N": text})
    with refused("ValidationException", "Attempting to store more than 38 significant digits in a Number"):
        kept({"N": "1" * 39})
    with refused("ValidationException", "Number overflow. Attempting to store a number with magnitude larger than supported range"):
        kept({"N": "1E+126"})
    with refused("ValidationException", "Number underflow. Attempting to store a number with magnitude smaller than supported range"):
        kept({"N": "1E-131"})
    with refused("SerializationException"):
        kept({"N": 7})


@check
def sets_have_no_duplicates():
    with refused("ValidationException", "One or more parameter values were invalid: Input collection [a, a] contains duplicates."):
        kept({"SS": ["a", "a"]})
    with refused("ValidationException"):
        kept({"NS": ["1", "1.0"]})
    with refused("ValidationException", part="contains duplicates"):
        kept({"BS": [b"a", b"a"]})


@check
def one_type_each():
    with refused("ValidationException", "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes"):
        kept({"S": "a", "N": "1"})
    with refused("ValidationException", "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes"):
        kept({})
    with refused("ValidationException", "One or more parameter values were invalid: Null attribute value types must have the value of true"):
        kept({"NULL": False})


@check
def depth():
    def nested(levels):
        value = {"S": "x"}
        for _ in range(levels):
            value = {"L": [value]}
        return value

    goes_through(nested(31))
    with refused("ValidationException", part="Nesting Levels have exceeded supported limits"):
        kept(nested(33))


@check
def size_of_an_item():
    # Names count too: pk and its value, v and its value, are 409,600 bytes together.
    key = fresh()
    room = 400 * 1024 - len("pk") - len(key) - len("v")
    db.put_item(TableName=table(db), Item={"pk": {"S": key}, "v": {"S": "x" * room}})
    equal(len(item_of(db, table(db), {"pk": {"S": key}})["v"]["S"]), room)
    with refused("ValidationException", "Item size has exceeded the maximum allowed size"):
        db.put_item(TableName=table(db), Item={"pk": {"S": key}, "v": {"S": "x" * (room + 1)}})


@check
def size_of_keys():
    db.put_item(TableName=table(db), Item={"pk": {"S": "k" * 2048}})
    told = "One or more parameter values were invalid: Size of hashkey has exceeded the maximum size limit of2048 bytes"
    with refused("ValidationException", told):
        db.put_item(TableName=table(db), Item={"pk": {"S": "k" * 2049}})
    name = table(db, "S", "S")
    db.put_item(TableName=name, Item={"pk": {"S": "a"}, "sk": {"S": "k" * 1024}})
    told = "One or more parameter values were invalid: Aggregated size of all range keys has exceeded the size limit of 1024 bytes"
    with refused("ValidationException", told):
        db.put_item(TableName=name, Item={"pk": {"S": "a"}, "sk": {"S": "k" * 1025}})


@check
def many_attributes():
    key = {"pk": {"S": fresh()}}
    item = {**key, **{f"a{number}": {"N": str(number)} for number in range(2000)}}
    db.put_item(TableName=table(db), Item=item)
    equal(item_of(db, table(db), key), item)


@check
def the_resource_speaks_python():
    name = table(db)
    things = resource().Table(name)
    key = fresh()
    item = {
        "pk": key,
        "number": decimal.Decimal("12.50"),
        "text": "x",
        "bytes": Binary(b"\x00\x01"),
        "flag": True,
        "nothing": None,
        "list": [1, "a", {"deep": decimal.Decimal("0.1")}],
        "strings": {"a", "b"},
        "numbers": {decimal.Decimal(1), decimal.Decimal("2.5")},
        "binaries": {Binary(b"a"), Binary(b"b")},
    }
    things.put_item(Item=item)
    read = things.get_item(Key={"pk": key}, ConsistentRead=True)["Item"]
    equal(read, {**item, "list": [decimal.Decimal(1), "a", {"deep": decimal.Decimal("0.1")}]})


run()
