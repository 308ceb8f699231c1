"""Two clients add to one counter through different proxies, and change a value by compare-and-set, while the node that leads is killed.
Nothing that was acknowledged is lost, and nothing is done twice. The values are keys of a local index, in which each item is in the end at
one place, that of its value.

The other side of the conversation is tests/dynamodb/main.rs: at the line `kill the leader of TABLE` it does so, and writes a line to
stdin. Clients do not ask again by themselves here: an addition whose outcome is unknown may have been made, once, and is counted as such.
"""

import os
import sys
import threading
import time

from botocore.exceptions import BotoCoreError, ClientError

from checks import DEADLINE_SECONDS, answers, check, client, create, equal, item_of, run, until, until_active

URLS = os.environ["DSTORE_PROXIES"].split(",")
TABLE = "counters"
# Successes of each client before the kill, and after it.
BEFORE, AFTER = 60, 120
KEY, OTHER_KEY = ({"pk": {"S": "one"}, "sk": {"S": name}} for name in ("added", "swapped"))

killed = threading.Event()


class Adder(threading.Thread):
    """Adds until it has had so many successes after the kill."""

    def __init__(self, url):
        super().__init__(daemon=True)
        self.db = client(url, read_timeout=30, connect_timeout=5)
        self.returned, self.after_kill, self.unknown = [], 0, []
        self.trouble = None

    def step(self):
        answer = self.db.update_item(
            TableName=TABLE,
            Key=KEY,
            UpdateExpression="ADD n :one",
            ExpressionAttributeValues={":one": {"N": "1"}},
            ReturnValues="UPDATED_NEW",
        )
        self.returned.append(int(answer["Attributes"]["n"]["N"]))
        self.after_kill += killed.is_set()

    def run(self):
        deadline = time.monotonic() + 2 * DEADLINE_SECONDS
        while self.after_kill < AFTER:
            if time.monotonic() > deadline:
                self.trouble = f"came to a stop after {len(self.returned)} additions: {self.unknown[-1:]}"
                return
            try:
                self.step()
            except (ClientError, BotoCoreError) as error:
                self.unknown.append(str(error))
                time.sleep(0.05)


class Swapper(Adder):
    """Reads a value and replaces it by the next one, where it is still the same."""

    def step(self):
        item = item_of(self.db, TABLE, OTHER_KEY)
        old = int(item["n"]["N"])
        try:
            self.db.update_item(
                TableName=TABLE,
                Key=OTHER_KEY,
                UpdateExpression="SET n = :next",
                ConditionExpression="n = :old",
                ExpressionAttributeValues={":old": {"N": str(old)}, ":next": {"N": str(old + 1)}},
            )
        except self.db.exceptions.ConditionalCheckFailedException:
            return
        self.returned.append(old + 1)
        self.after_kill += killed.is_set()


def judged(clients, final):
    """What clients were told against what is there in the end."""
    returned = [value for one in clients for value in one.returned]
    unknown = sum(len(one.unknown) for one in clients)
    equal(sorted(returned), sorted(set(returned)))
    for one in clients:
        equal(one.returned, sorted(one.returned))
    missing = set(range(1, final + 1)) - set(returned)
    assert max(returned) <= final, f"{max(returned)} was acknowledged, and {final} is there"
    assert len(missing) <= unknown, f"{len(missing)} additions were made that nobody asked for; {unknown} outcomes were unknown"
    print(f"# {len(returned)} acknowledged, {unknown} unknown, {len(missing)} of these were made", flush=True)


@check
def nothing_is_lost_or_done_twice():
    first = client(URLS[0])
    until("a table can be made", lambda: made(first))
    until("an item can be put", lambda: answers(lambda: first.put_item(TableName=TABLE, Item={**OTHER_KEY, "n": {"N": "0"}})))
    second = client(URLS[1])
    until("the other proxy knows the table", lambda: knows(second))
    adders, swappers = [Adder(url) for url in URLS], [Swapper(url) for url in URLS]
    for one in adders + swappers:
        one.start()
    until("enough was added", lambda: all(len(one.returned) >= BEFORE for one in adders), 2 * DEADLINE_SECONDS)
    print(f"kill the leader of {TABLE}", flush=True)
    equal(sys.stdin.readline(), "killed\n")
    killed.set()
    for one in adders + swappers:
        one.join(3 * DEADLINE_SECONDS)
        assert one.trouble is None and not one.is_alive(), one.trouble or "a client hangs"
    for url in URLS:
        db = client(url)
        judged(adders, int(item_of(db, TABLE, KEY)["n"]["N"]))
        judged(swappers, int(item_of(db, TABLE, OTHER_KEY)["n"]["N"]))
        # An addition whose outcome nobody knows may still be made between two reads.
        until("the index has the items as they are", lambda: indexed(db) == ordered(db))


def indexed(db):
    """What the index has."""
    ask = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": KEY["pk"]}, "ConsistentRead": True}
    return db.query(TableName=TABLE, IndexName="by-n", **ask)["Items"]


def ordered(db):
    """The items as the index has to have them."""
    items = [item_of(db, TABLE, key) for key in (KEY, OTHER_KEY)]
    return sorted(items, key=lambda item: (int(item["n"]["N"]), item["sk"]["S"]))


def made(db):
    try:
        create(db, TABLE, "S", "S", [("by-n", "n", "N", "KEYS_ONLY")])
    except db.exceptions.ResourceInUseException:
        return answers(lambda: until_active(db, TABLE) or True)
    except (ClientError, BotoCoreError):
        return False
    return True


def knows(db):
    try:
        return item_of(db, TABLE, OTHER_KEY) is not None
    except (ClientError, BotoCoreError):
        return False


run()
