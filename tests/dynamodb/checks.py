"""What the scripts of this folder share: clients, tables, and how a check tells what came out.

A script is a list of functions marked with @check. Each is run against the server that the environment names
(DSTORE_URL, AWS_ACCESS_KEY_ID, …) and prints one line, `ok NAME` or `not ok NAME: WHY`; the last line is `done COUNT`.
tests/dynamodb/main.rs starts servers and scripts, and makes assertions of these lines. By hand:

    DSTORE_URL=http://127.0.0.1:8080 AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… target/clients/bin/python tests/dynamodb/items.py [NAME…]

Checks do not depend on each other: each uses keys of its own in a table that its script made. What is expected was
written from AWS's documentation, not from what dStore answers.
"""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import traceback

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

URL = os.environ.get("DSTORE_URL", "http://127.0.0.1:8080")
REGION = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
# How long anything may take that normally takes a moment.
DEADLINE_SECONDS = 60

FOLDER = os.path.dirname(os.path.abspath(__file__))
CHECKS = []
_tables = {}
_numbers = itertools.count()


def check(function):
    """Marks a check."""
    CHECKS.append(function)
    return function


def run():
    """Runs the checks that are named on the command line, or all."""
    chosen = [one for one in CHECKS if one.__name__ in sys.argv[1:]] or CHECKS
    for one in chosen:
        try:
            one()
        except Exception as error:  # whatever it is, the next check is run
            place = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in place if os.path.basename(frame.filename) == os.path.basename(sys.argv[0])]
            where = f"{os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else "?"
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"not ok {one.__name__}: {where}: {why[:900]}", flush=True)
        else:
            print(f"ok {one.__name__}", flush=True)
    print(f"done {len(chosen)}", flush=True)


def client(url=None, key=None, verify=None, **settings):
    """A client that neither asks again by itself nor refuses by itself what a server should refuse; where they are given, with another
    access key (its id and secret) and with a file of authorities."""
    config = {"retries": {"total_max_attempts": 1}, "parameter_validation": False, "read_timeout": 60}
    config.update(settings)
    key_id, secret = key or (None, None)
    place = {"endpoint_url": url or URL, "region_name": REGION, "verify": verify, "config": Config(**config)}
    return boto3.client("dynamodb", aws_access_key_id=key_id, aws_secret_access_key=secret, **place)


def resource(url=None, verify=None):
    """The resource, as applications use it."""
    return boto3.resource("dynamodb", endpoint_url=url or URL, region_name=REGION, verify=verify)


def aws(*arguments, url=None, code=0):
    """Runs aws-cli; the JSON that it prints, or what it says on stderr where it has to fail."""
    program = os.path.join(os.path.dirname(sys.executable), "aws")
    command = [sys.executable, program, "dynamodb", *arguments, "--endpoint-url", url or URL, "--region", REGION, "--output", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "AWS_PAGER": ""}, check=False)
    assert ran.returncode == code, f"{arguments}: {ran.returncode}: {ran.stderr}"
    if code:
        return ran.stderr
    return json.loads(ran.stdout) if ran.stdout.strip() else None


def resolve_below(domain):
    """From now on a domain that nobody has, and all names below it, are this machine to this process."""
    real = socket.getaddrinfo

    def found(host, *more, **settings):
        is_here = isinstance(host, str) and f".{host.lower()}".endswith(f".{domain}")
        return real("127.0.0.1" if is_here else host, *more, **settings)

    socket.getaddrinfo = found


def fresh(prefix="k"):
    """A key that nobody else uses."""
    return f"{prefix}-{os.getpid()}-{next(_numbers)}"


def create(db, name, hash_type="S", range_type=None, indexes=(), **more):
    """Makes a table with the key pk and, where a type is given, sk, and waits until it can be used.

    A local index is given as its name, the attribute that it orders by, the type of that, and its projection: ALL, KEYS_ONLY, or a
    list of the attributes that it includes."""
    types = {"pk": hash_type, **({"sk": range_type} if range_type else {})}
    settings = {"BillingMode": "PAY_PER_REQUEST", **more}
    if indexes:
        settings["LocalSecondaryIndexes"] = [local_index(*index) for index in indexes]
    types.update({attribute: kind for _, attribute, kind, _ in indexes})
    schema = key_schema("sk") if range_type else key_schema("sk")[:1]
    db.create_table(TableName=name, AttributeDefinitions=definitions(**types), KeySchema=schema, **settings)
    until_active(db, name)
    return name


def definitions(**types):
    """AttributeDefinitions of attributes with these types."""
    return [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()]


def key_schema(range_name, hash_name="pk"):
    """KeySchema of a table or an index."""
    return [{"AttributeName": hash_name, "KeyType": "HASH"}, {"AttributeName": range_name, "KeyType": "RANGE"}]


def local_index(name, attribute, _type, projection):
    """A member of LocalSecondaryIndexes; see `create`."""
    if isinstance(projection, str):
        shown = {"ProjectionType": projection}
    else:
        shown = {"ProjectionType": "INCLUDE", "NonKeyAttributes": list(projection)}
    return {"IndexName": name, "KeySchema": key_schema(attribute), "Projection": shown}


def until(what, holds, seconds=DEADLINE_SECONDS):
    """Waits for a condition; what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        given = holds()
        if given:
            return given
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain until {what}")
        time.sleep(0.02)


def until_active(db, name):
    def is_active():
        try:
            return db.describe_table(TableName=name)["Table"]["TableStatus"] == "ACTIVE"
        except db.exceptions.ResourceNotFoundException:
            return False

    until(f"{name} is active", is_active)


def answers(ask):
    """Whether a call is answered. A server that has just started, or has not heard of a table or a key yet, refuses it."""
    try:
        ask()
    except (ClientError, BotoCoreError):
        return False
    return True


def table(db, hash_type="S", range_type=None):
    """The table of this script with these key types."""
    kind = f"{hash_type}{range_type or ''}"
    if kind not in _tables:
        script = os.path.splitext(os.path.basename(sys.argv[0]))[0]
        _tables[kind] = create(db, f"{script}.{kind}.{os.getpid()}", hash_type, range_type)
    return _tables[kind]


@contextlib.contextmanager
def refused(code, text=None, part=None):
    """What stands inside has to be refused with this code and, where they are given, this text or this part of one."""
    try:
        yield
    except ClientError as error:
        told = error.response["Error"]
        assert told["Code"] == code, f"{told['Code']} ({told.get('Message')}) instead of {code}"
        message = told.get("Message", "")
        assert text is None or message == text, f"{message!r} instead of {text!r}"
        assert part is None or part in message, f"{part!r} is not in {message!r}"
        return
    raise AssertionError(f"was not refused with {code}")


def equal(given, expected):
    """They are the same."""
    assert given == expected, f"{given!r} instead of {expected!r}"


def text_of(*path):
    """A file, by its path from here."""
    with open(os.path.join(FOLDER, *path), encoding="utf-8") as file:
        return file.read()


PAGE = text_of("..", "..", "docs", "dynamodb.md")


def rows(text):
    """The first cells of the rows of tables, each with its row."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith("| `") and len(cells) > 3:
            found[cells[1].strip("`")] = line
    return found


def operations_of_the_page():
    """Every operation that docs/dynamodb.md lists, with its row."""
    return rows(PAGE.split("\n## Operations\n")[1].split("\n## Parameters\n")[0])


def numbers(*values):
    """Values of type N."""
    return [{"N": str(value)} for value in values]


def item_of(db, name, key, **more):
    """An item as it is now; None where there is none."""
    return db.get_item(TableName=name, Key=key, ConsistentRead=True, **more).get("Item")


def pages(operation, **parameters):
    """All pages of a Query or Scan."""
    while True:
        page = operation(**parameters)
        yield page
        if "LastEvaluatedKey" not in page:
            return
        parameters["ExclusiveStartKey"] = page["LastEvaluatedKey"]
