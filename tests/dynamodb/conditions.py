"""Every comparison and function of ConditionExpression, over items where the attribute is there, is of another type, or is missing."""

from checks import check, client, fresh, refused, run, table

db = client()
_item = {}


def example():
    """An item with an attribute of each type."""
    if not _item:
        _item.update(
            pk={"S": fresh()},
            s={"S": "bcd"},
            n={"N": "5"},
            b={"B": b"\x05\x06"},
            t={"BOOL": True},
            z={"NULL": True},
            l={"L": [{"N": "1"}, {"S": "x"}, {"M": {"k": {"S": "v"}}}]},
            m={"M": {"x": {"N": "1"}, "y.z": {"S": "dotted"}}},
            ss={"SS": ["a", "b"]},
            ns={"NS": ["1", "2"]},
            bs={"BS": [b"\x01"]},
            e={"S": ""},
        )
        db.put_item(TableName=table(db), Item=_item)
    return _item


VALUES = {
    "a": {"S": "a"},
    "bc": {"S": "bc"},
    "bcd": {"S": "bcd"},
    "c": {"S": "c"},
    "x": {"S": "x"},
    "empty": {"S": ""},
    "one": {"N": "1"},
    "four": {"N": "4"},
    "five": {"N": "5.0"},
    "six": {"N": "6"},
    "bytes": {"B": b"\x05"},
    "true": {"BOOL": True},
    "null": {"NULL": True},
    "set": {"SS": ["b", "a"]},
    "map": {"M": {"y.z": {"S": "dotted"}, "x": {"N": "1.0"}}},
    "S": {"S": "S"},
    "N": {"S": "N"},
    "SS": {"S": "SS"},
    "L": {"S": "L"},
    "M": {"S": "M"},
    "B": {"S": "B"},
    "BOOL": {"S": "BOOL"},
    "NULL": {"S": "NULL"},
    "NS": {"S": "NS"},
    "BS": {"S": "BS"},
}


def holds(condition, names=None):
    """Whether a condition holds for the example; the values of VALUES that it names are sent with it."""
    words = condition.replace("(", " ").replace(")", " ").replace(",", " ").split()
    values = {word: VALUES[word[1:]] for word in words if word.startswith(":")}
    more = {"ExpressionAttributeNames": names} if names else {}
    if values:
        more["ExpressionAttributeValues"] = values
    try:
        db.put_item(TableName=table(db), Item=example(), ConditionExpression=condition, **more)
    except db.exceptions.ConditionalCheckFailedException:
        return False
    return True


def judge(true=(), false=()):
    example()
    wrong = [condition for condition in true if not holds(condition)]
    wrong += [condition for condition in false if holds(condition)]
    assert not wrong, f"judged wrongly: {wrong}"


@check
def comparisons():
    judge(
        true=["n = :five", "n <> :six", "n < :six", "n <= :five", "n > :four", "n >= :five", "s > :bc", "s < :c", "b > :bytes"]
        + [":five = n", ":four < n", "t = :true", "z = :null", "ss = :set", "m = :map", "e = :empty", "e < s"],
        false=["n = :six", "n <> :five", "n < :five", "n > :five", "s < :bc", "s = :five", "n = :bcd", "s < :six", "s > :four"]
        + ["nothing = :five", "nothing < :five", "nothing > :five", "nothing = nothing2"],
    )


@check
def unequal_is_true_where_it_is_missing():
    judge(true=["nothing <> :five", "s <> :five", "NOT nothing = :five"])


@check
def between_and_in():
    judge(
        true=["n BETWEEN :four AND :six", "n BETWEEN :five AND :five", "s BETWEEN :bc AND :c", ":five BETWEEN :four AND n", "n IN (:one, :five)", "s IN (:bcd)"],
        false=["n BETWEEN :one AND :four", "s BETWEEN :c AND :x", "nothing BETWEEN :four AND :six", "n IN (:one, :bcd)", "nothing IN (:one)"],
    )
    with refused("ValidationException", part="The BETWEEN operator requires upper bound to be greater than or equal to lower bound"):
        holds("n BETWEEN :six AND :four")


@check
def functions():
    judge(
        true=["attribute_exists(s)", "attribute_exists(m.x)", "attribute_exists(l[2].k)", "attribute_not_exists(nothing)", "attribute_not_exists(m.nothing)"]
        + ["begins_with(s, :bc)", "begins_with(b, :bytes)", "begins_with(s, :empty)"]
        + ["contains(s, :c)", "contains(ss, :a)", "contains(l, :one)", "contains(l, :x)", "contains(b, :bytes)"],
        false=["attribute_exists(nothing)", "attribute_exists(l[3])", "attribute_exists(s.x)", "attribute_not_exists(s)", "begins_with(s, :c)"]
        + ["begins_with(nothing, :c)", "begins_with(n, :bc)", "contains(s, :x)", "contains(ss, :c)", "contains(l, :five)", "contains(n, :a)", "contains(nothing, :a)"],
    )


@check
def attribute_type():
    kinds = {"s": "S", "n": "N", "b": "B", "t": "BOOL", "z": "NULL", "l": "L", "m": "M", "ss": "SS", "ns": "NS", "bs": "BS"}
    judge(
        true=[f"attribute_type({name}, :{kind})" for name, kind in kinds.items()],
        false=["attribute_type(s, :N)", "attribute_type(nothing, :S)"],
    )
    with refused("ValidationException", part="Invalid attribute type name found; type: x"):
        holds("attribute_type(s, :x)")


@check
def size():
    judge(
        true=["size(s) < :five", "size(s) > :one", "size(e) < :one", "size(b) > :one", "size(l) < :four", "size(m) > :one", "size(ss) > :one", "size(bs) = :one", "n > size(s)"],
        false=["size(s) > :five", "size(nothing) > :one", "size(nothing) < :one", "size(n) > :one", "size(n) < :six"],
    )


@check
def logic_and_its_order():
    judge(
        true=["n = :five AND s = :bcd", "n = :six OR s = :bcd", "NOT n = :six", "NOT (n = :five AND s = :c)", "n = :five OR n = :six AND s = :c", "(n = :five)", "not n = :six and s = :bcd"],
        false=["n = :five AND s = :c", "(n = :five OR n = :six) AND s = :c", "NOT n = :five OR s = :c"],
    )


@check
def paths_and_names():
    assert holds("#m.#x = :one", {"#m": "m", "#x": "x"})
    assert holds("m.#d <> l[1]", {"#d": "y.z"})
    assert holds("l[0] = :one") and holds("l[2].k <> :one") and not holds("l[1] = :one")
    with refused("ValidationException", "Invalid ConditionExpression: Attribute name is a reserved keyword; reserved keyword: name"):
        holds("name = :one")


@check
def what_is_wrong_is_told():
    for wrong, part in [
        ("n = ", 'Syntax error; token: "<EOF>", near: "="'),
        ("n = :one extra", "Syntax error; token:"),
        ("(n = :one", 'Syntax error; token: "<EOF>", near: ":one"'),
        ("((n = :one))", "The expression has redundant parentheses;"),
        ("n = n", "The first operand must be distinct from the remaining operands for this operator or function"),
        ("nonsense(n)", "Invalid function name; function: nonsense"),
        ("attribute_exists(n, s)", "Incorrect number of operands for operator or function; operator or function: attribute_exists, number of operands: 2"),
        ("begins_with(s, :one)", "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N"),
        ("size(s)", "The function is not allowed to be used this way in an expression; function: size"),
        ("attribute_exists(:one)", "Operator or function requires a document path; operator or function: attribute_exists"),
        ("contains(s, s)", "The first operand must be distinct from the remaining operands for this operator or function"),
    ]:
        with refused("ValidationException", part=f"Invalid ConditionExpression: {part}"):
            holds(wrong)
    with refused("ValidationException", "Invalid ConditionExpression: The expression can not be empty;"):
        holds("")


@check
def hostile_depth_is_refused():
    for text in ["(" * 5000 + "n = :one" + ")" * 5000, "NOT " * 5000 + "n = :one"]:
        with refused("ValidationException"):
            db.put_item(TableName=table(db), Item=example(), ConditionExpression=text[:60000], ExpressionAttributeValues={":one": {"N": "1"}})
    with refused("ValidationException", part="Expression size has exceeded the maximum allowed size"):
        db.put_item(TableName=table(db), Item=example(), ConditionExpression="attribute_exists(" + "a" * 5000 + ")")


run()
