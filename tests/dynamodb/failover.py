"""Applications while the node is killed that leads all they use: boto3's resource, its batch writer, and aws-cli, each with the retries that it
has as it is shipped. Every call succeeds in the end, and what was acknowledged is there.

The other side of the conversation is tests/dynamodb/main.rs, as for counter.py; it makes the table, with a single range, so that no
application is spared. An SDK asks again where an outcome is not known, and what it asks for is done twice then: so whole items are written,
values set and items deleted, which may be done twice. Of additions there may be more than were asked for, and never fewer.
"""

import json
import os
import sys
import threading
import time

from boto3.dynamodb.conditions import Key

from checks import DEADLINE_SECONDS, answers, aws, check, client, equal, fresh, item_of, pages, resource, run, until

URLS = os.environ["DSTORE_PROXIES"].split(",")
TABLE = os.environ["DSTORE_TABLE"]
# Where an application counts its steps.
COUNTER = -1

killed = threading.Event()


class Application(threading.Thread):
    """Takes steps until so many were begun after the kill. A call that fails ends it."""

    AFTER = 30

    def __init__(self):
        super().__init__(daemon=True)
        self.id = fresh(type(self).__name__)
        # The items that have to be there, by their sort keys.
        self.items = {}
        self.steps, self.after_kill, self.slowest, self.trouble = 0, 0, 0.0, None

    def key(self, sort):
        return {"id": self.id, "sort": sort}

    def step(self, number):
        raise NotImplementedError

    def run(self):
        deadline = time.monotonic() + 6 * DEADLINE_SECONDS  # aws-cli takes seconds to start on a busy machine
        try:
            while self.after_kill < self.AFTER:
                begun, is_after = time.monotonic(), killed.is_set()
                assert begun < deadline, "it came to a stop"
                self.step(self.steps)
                self.steps += 1
                self.after_kill += is_after
                self.slowest = max(self.slowest, time.monotonic() - begun)
        except Exception as error:  # whatever it is, a call failed that should not have
            self.trouble = f"{type(self).__name__}: step {self.steps}, {self.after_kill} after the kill: {type(error).__name__}: {error}"


class Resource(Application):
    """Puts, changes, reads and deletes."""

    def __init__(self):
        super().__init__()
        self.table = resource(URLS[0]).Table(TABLE)

    def step(self, number):
        key = self.key(number)
        self.table.put_item(Item={**key, "n": number})
        self.table.update_item(Key=key, UpdateExpression="SET word = :w", ExpressionAttributeValues={":w": f"w{number}"})
        self.items[number] = {**key, "n": number, "word": f"w{number}"}
        equal(self.table.get_item(Key=key, ConsistentRead=True)["Item"], self.items[number])
        if number % 3 == 2:
            self.table.delete_item(Key=self.key(number - 1))
            del self.items[number - 1]
        self.table.update_item(Key=self.key(COUNTER), UpdateExpression="ADD n :one", ExpressionAttributeValues={":one": 1})


class Batches(Application):
    """Writes as many items as take several calls, and deletes some of those before."""

    AFTER = 5
    ITEMS = 40

    def __init__(self):
        super().__init__()
        self.table = resource(URLS[0]).Table(TABLE)

    def step(self, number):
        first = number * self.ITEMS
        made = {sort: {**self.key(sort), "fill": "x" * 100} for sort in range(first, first + self.ITEMS)}
        gone = [sort for sort in self.items if sort >= first - 5]
        with self.table.batch_writer() as batch:
            for item in made.values():
                batch.put_item(Item=item)
            for sort in gone:
                batch.delete_item(Key=self.key(sort))
        self.items.update(made)
        for sort in gone:
            del self.items[sort]


class CommandLine(Application):
    """Puts and reads by aws-cli, through the other proxy. Each call is a process of its own."""

    AFTER = 2

    def step(self, number):
        key = {"id": {"S": self.id}, "sort": {"N": str(number)}}
        item = {**key, "n": {"N": str(number)}}
        aws("put-item", "--table-name", TABLE, "--item", json.dumps(item), url=URLS[1])
        read = aws("get-item", "--table-name", TABLE, "--key", json.dumps(key), "--consistent-read", url=URLS[1])
        equal(read["Item"], item)
        self.items[number] = {**self.key(number), "n": number}


def stored(url, application):
    """What is there of an application, by sort keys."""
    table = resource(url).Table(TABLE)
    found = pages(table.query, KeyConditionExpression=Key("id").eq(application.id), ConsistentRead=True)
    return {int(item["sort"]): item for page in found for item in page["Items"]}


def judge(url, application):
    """What has to be there is there as it was written, and nothing else."""
    there = stored(url, application)
    counted = there.pop(COUNTER, {"n": 0})["n"]
    least = application.steps if isinstance(application, Resource) else 0
    assert counted >= least, f"{counted} additions are there, and {least} were acknowledged"
    missing = {sort for sort in application.items if there.get(sort) != application.items[sort]}
    assert not missing, f"{application.id}: {sorted(missing)} of {len(application.items)} items are not as they were acknowledged"
    equal(set(there) - set(application.items), set())
    return int(counted) - least


@check
def no_call_fails_and_nothing_is_lost():
    for url in URLS:
        until("a proxy knows the table", lambda: answers(lambda: item_of(client(url), TABLE, {"id": {"S": "x"}, "sort": {"N": "0"}})))
    applications = [Resource(), Batches(), CommandLine()]
    for application in applications:
        application.start()
    until("all are at work", lambda: all(one.steps > 0 or one.trouble for one in applications), 3 * DEADLINE_SECONDS)
    print(f"kill the leader of {TABLE}", flush=True)
    equal(sys.stdin.readline(), "killed\n")
    killed.set()
    for application in applications:
        application.join(7 * DEADLINE_SECONDS)
    trouble = [one.trouble or f"{one.id} hangs" for one in applications if one.trouble or one.is_alive()]
    assert not trouble, trouble
    repeated = [judge(url, application) for url in URLS for application in applications]
    for one in applications:
        print(f"# {type(one).__name__}: {one.steps} steps, the slowest took {one.slowest:.1f} s", flush=True)
    print(f"# additions that were made twice: {max(repeated)}", flush=True)


run()
