"""The door over HTTPS, with a certificate of an authority that the client is told of: boto3's client and resource, and aws-cli. A client
that does not know the authority, or asks by a name that is not the certificate's, talks to nobody.

The server has hosts of tenants below a domain that nobody has; names below it are resolved here."""

import os
import urllib.parse

from botocore.exceptions import SSLError

from checks import URL, aws, check, client, create, equal, fresh, item_of, pages, resolve_below, resource, run, until

AUTHORITY, DOMAIN = os.environ["DSTORE_AUTHORITY"], os.environ["DSTORE_DOMAIN"]
PORT = urllib.parse.urlsplit(URL).port
db = client(verify=AUTHORITY)
resolve_below(DOMAIN)


@check
def a_client_that_knows_the_authority():
    assert URL.startswith("https://"), URL
    name = create(db, f"https.{os.getpid()}", "S", "N")
    pk = {"S": fresh()}
    for number in range(8):
        db.put_item(TableName=name, Item={"pk": pk, "sk": {"N": str(number)}, "fill": {"S": "x" * 200_000}})
    equal(item_of(db, name, {"pk": pk, "sk": {"N": "3"}})["fill"], {"S": "x" * 200_000})
    ask = {"TableName": name, "KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {":pk": pk}, "ConsistentRead": True}
    equal([item["sk"]["N"] for page in pages(db.query, **ask) for item in page["Items"]], [str(number) for number in range(8)])
    table = resource(verify=AUTHORITY).Table(name)
    with table.batch_writer() as batch:
        for number in range(30):
            batch.put_item(Item={"pk": "resource", "sk": number})
    until("the items are counted", lambda: table.reload() or table.item_count == 38)
    db.delete_table(TableName=name)


@check
def a_client_that_does_not():
    for strange in [client(), client(f"https://localhost:{PORT}", verify=AUTHORITY)]:
        try:
            told = strange.list_tables()
        except SSLError as error:
            assert "CERTIFICATE_VERIFY_FAILED" in str(error) or "match" in str(error), error
        else:
            raise AssertionError(f"was answered: {told}")


@check
def a_host_of_a_tenant():
    place = f"{os.environ['DSTORE_TENANT']}.{DOMAIN}:{PORT}"
    there = client(f"https://{place}", verify=AUTHORITY)
    equal(there.describe_endpoints()["Endpoints"][0]["Address"], place)
    assert "TableNames" in there.list_tables()


@check
def aws_cli():
    assert "TableNames" in aws("list-tables", "--ca-bundle", AUTHORITY)


run()
