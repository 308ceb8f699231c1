"""Hosts of tenants, TENANT.DOMAIN: such a host takes access keys of its tenant, and every other name or address takes all. The domain is
one that nobody has; names below it are resolved here. Besides the default tenant there is one called `other`, with a key of its own."""

import os
import urllib.parse

from checks import URL, answers, check, client, create, equal, fresh, item_of, refused, resolve_below, run, until

DOMAIN, OWN, OTHER = os.environ["DSTORE_DOMAIN"], os.environ["DSTORE_TENANT"], "other"
PORT = urllib.parse.urlsplit(URL).port
KEYS = {
    OWN: (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]),
    OTHER: (os.environ["DSTORE_OTHER_ACCESS_KEY_ID"], os.environ["DSTORE_OTHER_SECRET_ACCESS_KEY"]),
}
UNKNOWN = ("UnrecognizedClientException", "The security token included in the request is invalid.")
resolve_below(DOMAIN)


def at(host, tenant):
    """A client with a tenant's key at this host."""
    return client(f"http://{host}:{PORT}", key=KEYS[tenant])


def own_host(tenant):
    """A client with a tenant's key at its own host."""
    return at(f"{tenant}.{DOMAIN}", tenant)


@check
def a_key_at_its_own_host():
    for tenant in KEYS:
        db = own_host(tenant)
        until("the key is known", lambda: answers(db.list_tables))
        create(db, "hosts.same")
        db.put_item(TableName="hosts.same", Item={"pk": {"S": "a"}, "whose": {"S": tenant}})
        equal(db.describe_endpoints()["Endpoints"][0]["Address"], f"{tenant}.{DOMAIN}:{PORT}")
    for tenant in KEYS:
        equal(item_of(own_host(tenant), "hosts.same", {"pk": {"S": "a"}})["whose"], {"S": tenant})
        assert f":{tenant}:" in own_host(tenant).describe_table(TableName="hosts.same")["Table"]["TableArn"]


@check
def a_key_at_the_host_of_another_tenant():
    item = {"pk": {"S": fresh()}}
    for tenant, wrong in [(OWN, OTHER), (OTHER, OWN), (OWN, "nobody"), (OWN, f"more.{OWN}"), (OTHER, f"{OTHER}-more")]:
        strange = at(f"{wrong}.{DOMAIN}", tenant)
        for ask in [strange.list_tables, strange.describe_endpoints, lambda: strange.put_item(TableName="hosts.same", Item=item)]:
            with refused(*UNKNOWN):
                ask()
    for tenant in KEYS:
        equal(item_of(own_host(tenant), "hosts.same", item), None)


@check
def a_key_that_nobody_has():
    with refused(*UNKNOWN):
        client(f"http://{OWN}.{DOMAIN}:{PORT}", key=("DSTKNOBODYKNOWSTHIS0", KEYS[OWN][1])).list_tables()
    with refused("InvalidSignatureException"):
        client(f"http://{OWN}.{DOMAIN}:{PORT}", key=(KEYS[OWN][0], "a" * 40)).list_tables()


@check
def every_other_name_takes_all_keys():
    for tenant in KEYS:
        for host in ["127.0.0.1", "localhost", DOMAIN]:
            assert "hosts.same" in at(host, tenant).list_tables()["TableNames"], host


run()
