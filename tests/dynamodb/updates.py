"""UpdateItem: every clause, function and operator of UpdateExpression, every ReturnValues, and what is refused."""

from checks import check, client, equal, fresh, item_of, refused, run, table

db = client()


def made(**attributes):
    """A stored item's key."""
    key = {"pk": {"S": fresh()}}
    db.put_item(TableName=table(db), Item={**key, **attributes})
    return key


def update(key, expression, values=None, names=None, **more):
    if values:
        more["ExpressionAttributeValues"] = values
    if names:
        more["ExpressionAttributeNames"] = names
    return db.update_item(TableName=table(db), Key=key, UpdateExpression=expression, **more)


def after(key, expression, values=None, names=None):
    """The attributes besides the key after an update."""
    update(key, expression, values, names)
    item = item_of(db, table(db), key)
    return {name: value for name, value in item.items() if name != "pk"}


def text(value):
    return {"S": value}


def number(value):
    return {"N": str(value)}


@check
def set_creates_and_replaces():
    key = {"pk": text(fresh())}
    equal(after(key, "SET a = :a, b = :b", {":a": number(1), ":b": text("x")}), {"a": number(1), "b": text("x")})
    equal(after(key, "SET a = b", None), {"a": text("x"), "b": text("x")})
    equal(after(key, "SET #n = :a", {":a": number(2)}, {"#n": "name"})["name"], number(2))


@check
def an_update_without_expression_creates():
    key = {"pk": text(fresh())}
    db.update_item(TableName=table(db), Key=key)
    equal(item_of(db, table(db), key), key)


@check
def set_arithmetic():
    key = made(a=number(10), b=number("0.1"))
    equal(after(key, "SET a = a + :n", {":n": number(5)})["a"], number(15))
    equal(after(key, "SET a = :n - a", {":n": number(5)})["a"], number(-10))
    equal(after(key, "SET b = b + :n", {":n": number("0.2")})["b"], number("0.3"))
    equal(after(key, "SET c = a - b", None)["c"], number("-10.3"))
    exact = after(key, "SET d = :x + :y", {":x": number("1" + "0" * 37), ":y": number(1)})["d"]
    equal(exact, number("1" + "0" * 36 + "1"))
    with refused("ValidationException", "The provided expression refers to an attribute that does not exist in the item"):
        update(key, "SET x = nothing + :n", {":n": number(1)})
    update(key, "SET s = :s", {":s": text("x")})
    with refused("ValidationException", "An operand in the update expression has an incorrect data type"):
        update(key, "SET s = s + :n", {":n": number(1)})
    with refused("ValidationException", part="Incorrect operand type for operator or function; operator or function: +, operand type: S"):
        update(key, "SET a = a + :s", {":s": text("x")})


@check
def arithmetic_that_does_not_fit():
    key = made(a=number("9.9999999999999999999999999999999999999E+125"))
    with refused("ValidationException", part="Number overflow"):
        update(key, "SET a = a + a", None)
    with refused("ValidationException", part="Number overflow"):
        update(key, "ADD a :n", {":n": number("9E+125")})


@check
def if_not_exists():
    key = made(a=number(1))
    equal(after(key, "SET a = if_not_exists(a, :n), b = if_not_exists(b, :n)", {":n": number(7)}), {"a": number(1), "b": number(7)})
    equal(after(key, "SET c = if_not_exists(c, :z) + :n", {":z": number(0), ":n": number(7)})["c"], number(7))
    equal(after(key, "SET c = if_not_exists(c, :z) + :n", {":z": number(0), ":n": number(7)})["c"], number(14))


@check
def list_append():
    key = made(l={"L": [number(1)]})
    equal(after(key, "SET l = list_append(l, :x)", {":x": {"L": [number(2)]}})["l"], {"L": [number(1), number(2)]})
    equal(after(key, "SET l = list_append(:x, l)", {":x": {"L": [number(0)]}})["l"]["L"][0], number(0))
    values = {":x": {"L": [text("a")]}, ":e": {"L": []}}
    equal(after(key, "SET m = list_append(if_not_exists(m, :e), :x)", values)["m"], {"L": [text("a")]})
    with refused("ValidationException", part="Incorrect operand type for operator or function; operator or function: list_append, operand type: N"):
        update(key, "SET l = list_append(l, :n)", {":n": number(1)})
    update(key, "SET s = :s", {":s": text("x")})
    with refused("ValidationException", "An operand in the update expression has an incorrect data type"):
        update(key, "SET s = list_append(s, :x)", {":x": {"L": []}})


@check
def nested_paths():
    key = made(m={"M": {"a": {"M": {"b": number(1)}}, "l": {"L": [number(0), number(1), number(2)]}}})
    equal(after(key, "SET m.a.b = m.a.b + :n, m.a.c = :n", {":n": number(1)})["m"]["M"]["a"], {"M": {"b": number(2), "c": number(1)}})
    equal(after(key, "SET m.l[1] = :n", {":n": number(9)})["m"]["M"]["l"], {"L": [number(0), number(9), number(2)]})
    equal(after(key, "SET m.l[50] = :n", {":n": number(3)})["m"]["M"]["l"]["L"][3], number(3))
    equal(after(key, "REMOVE m.l[0], m.l[1]", None)["m"]["M"]["l"], {"L": [number(2), number(3)]})
    equal(after(key, "REMOVE m.a.#b", None, {"#b": "b"})["m"]["M"]["a"], {"M": {"c": number(1)}})
    for path in ["nothing.a", "m.c.d", "m.a[0]", "m.l.x"]:
        with refused("ValidationException", "The document path provided in the update expression is invalid for update"):
            update(key, f"SET {path} = :n", {":n": number(1)})
    equal(after(key, "SET #dotted = :n", {":n": number(1)}, {"#dotted": "a.b"})["a.b"], number(1))


@check
def remove():
    key = made(a=number(1), b=number(2), c={"L": [number(0), number(1), number(2)]})
    equal(after(key, "REMOVE a, nothing, c[0]", None), {"b": number(2), "c": {"L": [number(1), number(2)]}})
    equal(after(key, "REMOVE c[7]", None)["c"], {"L": [number(1), number(2)]})


@check
def add():
    key = made(n=number(1))
    equal(after(key, "ADD n :x, m :x", {":x": number("2.5")}), {"n": number("3.5"), "m": number("2.5")})
    equal(after(key, "ADD n :x", {":x": number(-4)})["n"], number("-0.5"))
    equal(after(key, "ADD s :x", {":x": {"SS": ["a"]}})["s"], {"SS": ["a"]})
    equal(sorted(after(key, "ADD s :x", {":x": {"SS": ["b", "a"]}})["s"]["SS"]), ["a", "b"])
    equal(sorted(after(key, "ADD ns :x", {":x": {"NS": ["1", "2.0"]}})["ns"]["NS"]), ["1", "2"])
    equal(after(key, "ADD bs :x", {":x": {"BS": [b"\x01"]}})["bs"], {"BS": [b"\x01"]})
    with refused("ValidationException", "An operand in the update expression has an incorrect data type"):
        update(key, "ADD s :x", {":x": number(1)})
    with refused("ValidationException", "An operand in the update expression has an incorrect data type"):
        update(key, "ADD s :x", {":x": {"NS": ["1"]}})
    with refused("ValidationException", part="Incorrect operand type for operator or function; operator: ADD, operand type: STRING"):
        update(key, "ADD n :x", {":x": text("x")})
    equal(after({"pk": text(fresh())}, "ADD n :x", {":x": number(3)}), {"n": number(3)})


@check
def taking_away_from_nothing_makes_no_item():
    for more in [
        {"UpdateExpression": "REMOVE a"},
        {"UpdateExpression": "DELETE s :x", "ExpressionAttributeValues": {":x": {"SS": ["a"]}}},
        {"AttributeUpdates": {"a": {"Action": "DELETE"}}},
        {"AttributeUpdates": {"s": {"Action": "DELETE", "Value": {"SS": ["a"]}}}},
    ]:
        key = {"pk": text(fresh())}
        answer = db.update_item(TableName=table(db), Key=key, ReturnValues="ALL_NEW", **more)
        assert "Attributes" not in answer, answer
        equal(item_of(db, table(db), key), None)
    key = {"pk": text(fresh())}
    db.update_item(TableName=table(db), Key=key)
    equal(item_of(db, table(db), key), key)


@check
def delete_from_sets():
    key = made(s={"SS": ["a", "b", "c"]}, n=number(1))
    equal(sorted(after(key, "DELETE s :x", {":x": {"SS": ["a", "z"]}})["s"]["SS"]), ["b", "c"])
    equal(after(key, "DELETE nothing :x", {":x": {"SS": ["a"]}})["n"], number(1))
    assert "s" not in after(key, "DELETE s :x", {":x": {"SS": ["b", "c"]}}), "an empty set is no attribute"
    with refused("ValidationException", "An operand in the update expression has an incorrect data type"):
        update(key, "DELETE n :x", {":x": {"NS": ["1"]}})
    with refused("ValidationException", part="operator: DELETE, operand type: NUMBER"):
        update(key, "DELETE n :x", {":x": number(1)})


@check
def several_clauses_see_the_item_before():
    key = made(a=number(1), b=number(2), c=number(3))
    values = {":n": number(10), ":s": {"SS": ["x"]}}
    equal(after(key, "SET a = b, b = a REMOVE c ADD d :n, e :s", values), {"a": number(2), "b": number(1), "d": number(10), "e": {"SS": ["x"]}})
    with refused("ValidationException", part='The "SET" section can only be used once in an update expression'):
        update(key, "SET a = :n SET b = :n", {":n": number(1)})


@check
def paths_that_overlap_or_conflict():
    key = made(a={"M": {}})
    one = "Invalid UpdateExpression: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [a], path two: [a]"
    with refused("ValidationException", one):
        update(key, "SET a = :n, a = :n", {":n": number(1)})
    with refused("ValidationException", part="Two document paths overlap with each other"):
        update(key, "SET a.b = :n REMOVE a", {":n": number(1)})
    with refused("ValidationException", part="Two document paths conflict with each other"):
        update(key, "SET a.b = :n, a[0] = :n", {":n": number(1)})


@check
def keys_are_not_updated():
    told = "One or more parameter values were invalid: Cannot update attribute pk. This attribute is part of the key"
    for expression in ["SET pk = :x", "REMOVE pk"]:
        with refused("ValidationException", told):
            update(made(), expression, {":x": text("x")} if ":x" in expression else None)


@check
def return_values():
    key = made(a=number(1), b={"M": {"x": number(1), "y": number(2)}})
    before = item_of(db, table(db), key)

    def returned(wish, expression="SET a = a + :n, b.x = :n REMOVE c", values=None):
        return update(key, expression, values or {":n": number(5)}, ReturnValues=wish).get("Attributes")

    equal(returned("NONE"), None)
    equal(returned("ALL_NEW"), {**key, "a": number(11), "b": {"M": {"x": number(5), "y": number(2)}}})
    equal(returned("ALL_OLD"), {**key, "a": number(11), "b": {"M": {"x": number(5), "y": number(2)}}})
    equal(returned("UPDATED_OLD"), {"a": number(16), "b": {"M": {"x": number(5)}}})
    equal(returned("UPDATED_NEW"), {"a": number(26), "b": {"M": {"x": number(5)}}})
    equal(returned("UPDATED_NEW", "REMOVE a SET z = :n"), {"z": number(5)})
    assert before["a"] == number(1)
    new = {"pk": text(fresh())}
    for wish in ["ALL_OLD", "UPDATED_OLD"]:
        answer = update({"pk": text(fresh())}, "SET a = :n", {":n": number(1)}, ReturnValues=wish)
        assert "Attributes" not in answer, answer
    equal(update(new, "SET a = :n", {":n": number(1)}, ReturnValues="ALL_NEW")["Attributes"], {**new, "a": number(1)})
    with refused("ValidationException", part="returnValues"):
        returned("SOMETHING")


@check
def conditions():
    key = made(a=number(1))
    with refused("ConditionalCheckFailedException", "The conditional request failed"):
        update(key, "SET a = :n", {":n": number(2)}, ConditionExpression="a > :n")
    try:
        update(key, "SET a = :n", {":n": number(2)}, ConditionExpression="attribute_not_exists(a)", ReturnValuesOnConditionCheckFailure="ALL_OLD")
    except db.exceptions.ConditionalCheckFailedException as error:
        equal(error.response["Item"], {**key, "a": number(1)})
    else:
        raise AssertionError("was not refused")
    new = {"pk": text(fresh())}
    with refused("ConditionalCheckFailedException"):
        update(new, "SET a = :n", {":n": number(2)}, ConditionExpression="attribute_exists(pk)")
    assert item_of(db, table(db), new) is None, "a refused update creates nothing"


@check
def consumed_capacity():
    key = made(a=text("x" * 3000))
    cost = update(key, "SET a = :a", {":a": text("y")}, ReturnConsumedCapacity="TOTAL")["ConsumedCapacity"]
    equal(cost["CapacityUnits"], 3.0)
    assert "ItemCollectionMetrics" not in update(key, "SET b = :a", {":a": text("y")}, ReturnItemCollectionMetrics="SIZE")


@check
def words_that_are_wrong():
    key = made()
    with refused("ValidationException", part="Invalid UpdateExpression: Syntax error; token:"):
        update(key, "SET a == :n", {":n": number(1)})
    with refused("ValidationException", "Invalid UpdateExpression: The expression can not be empty;"):
        update(key, "", None)
    with refused("ValidationException", "Invalid UpdateExpression: Attribute name is a reserved keyword; reserved keyword: name"):
        update(key, "SET name = :n", {":n": number(1)})
    undefined = "Invalid UpdateExpression: An expression attribute value used in expression is not defined; attribute value: :m"
    with refused("ValidationException", undefined):
        update(key, "SET a = :m", {":n": number(1)})
    undefined = "Invalid UpdateExpression: An expression attribute name used in the document path is not defined; attribute name: #m"
    with refused("ValidationException", undefined):
        update(key, "SET #m = :n", {":n": number(1)})
    with refused("ValidationException", "Value provided in ExpressionAttributeValues unused in expressions: keys: {:u}"):
        update(key, "SET a = :n", {":n": number(1), ":u": number(2)})
    with refused("ValidationException", part="Invalid function name; function: nonsense"):
        update(key, "SET a = nonsense(a, :n)", {":n": number(1)})


@check
def an_item_that_grows_too_large():
    key = made(a=text("x" * 300_000))
    with refused("ValidationException", "Item size to update has exceeded the maximum allowed size"):
        update(key, "SET b = :b", {":b": text("y" * 150_000)})
    assert "b" not in item_of(db, table(db), key)


run()
