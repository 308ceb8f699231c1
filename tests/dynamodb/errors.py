"""What stands around the operations: signatures, names of errors, bodies that are none, headers, compression. Sent by hand, because
no SDK would."""

import base64
import datetime
import gzip
import hashlib
import http.client
import json
import os
import urllib.parse
import zlib

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from checks import REGION, URL, check, client, equal, fresh, operations_of_the_page, refused, run, table

db = client()
PLACE = urllib.parse.urlsplit(URL)
KEY = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
TYPE = "application/x-amz-json-1.0"


def signed(operation, body=b"{}", credentials=KEY, prefix="DynamoDB_20120810.", path="/", **headers):
    """The headers of a signed request."""
    given = {"Content-Type": TYPE, "X-Amz-Target": prefix + operation}
    given.update({name.replace("_", "-"): value for name, value in headers.items()})
    request = AWSRequest("POST", URL + path, headers=given, data=body)
    SigV4Auth(credentials, "dynamodb", REGION).add_auth(request)
    return dict(request.headers)


def send(headers, body=b"{}", method="POST", path="/"):
    """Status, headers and body of an answer, as they are on the wire."""
    connection = http.client.HTTPConnection(PLACE.hostname, PLACE.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it answers before it has read all
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def error(headers, body=b"{}"):
    """Status and type of a refusal."""
    status, _, content = send(headers, body)
    told = json.loads(content)
    return status, told["__type"], told.get("message", told.get("Message"))


SERVICE, API, VALIDATE = "com.amazon.coral.service#", "com.amazonaws.dynamodb.v20120810#", "com.amazon.coral.validate#"


@check
def types_of_errors_have_their_prefixes():
    body = b'{"TableName":"nowhere","Key":{"pk":{"S":"a"}}}'
    equal(error(signed("GetItem", body), body), (400, API + "ResourceNotFoundException", "Requested resource not found"))
    equal(error(signed("GetItem"))[:2], (400, VALIDATE + "ValidationException"))
    equal(error(signed("Dance"))[:2], (400, SERVICE + "UnknownOperationException"))
    equal(error(signed("ListTables", prefix="Other_20120810."))[:2], (400, SERVICE + "UnknownOperationException"))
    equal(error(signed("ListTables", b"{"), b"{")[:2], (400, SERVICE + "SerializationException"))
    wrong = b'{"TableName":7}'
    equal(error(signed("DescribeTable", wrong), wrong)[:2], (400, SERVICE + "SerializationException"))


@check
def signatures_are_checked():
    equal(error({"Content-Type": TYPE, "X-Amz-Target": "DynamoDB_20120810.ListTables"})[:2], (400, SERVICE + "MissingAuthenticationTokenException"))
    unknown = Credentials("DSTKNOBODYKNOWSTHIS0", KEY.secret_key)
    status, kind, told = error(signed("ListTables", credentials=unknown))
    equal((status, kind.split("#")[1]), (400, "UnrecognizedClientException"))
    assert "security token" in told, told
    forged = Credentials(KEY.access_key, "a" * 40)
    equal(error(signed("ListTables", credentials=forged))[:2], (400, SERVICE + "InvalidSignatureException"))
    headers = signed("ListTables")
    equal(error(headers, b'{"Limit":1}')[:2], (400, SERVICE + "InvalidSignatureException"))
    headers["Authorization"] = headers["Authorization"].replace("SignedHeaders", "Signed")
    equal(error(headers)[:2], (400, SERVICE + "IncompleteSignatureException"))


@check
def an_old_signature_is_refused():
    import botocore.auth

    real = botocore.auth.get_current_datetime
    for minutes, word in [(-20, "Signature expired"), (20, "Signature not yet current")]:
        botocore.auth.get_current_datetime = lambda *_, **__: datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) + datetime.timedelta(minutes=minutes)
        try:
            status, kind, told = error(signed("ListTables"))
        finally:
            botocore.auth.get_current_datetime = real
        equal((status, kind), (400, SERVICE + "InvalidSignatureException"))
        assert word in told, told


class QueryAuth(SigV4QueryAuth):
    """Signs the body that is sent; botocore would move it into the query."""

    def payload(self, request):
        return hashlib.sha256(b"{}").hexdigest()


@check
def a_signature_in_the_query():
    body = b"{}"
    request = AWSRequest("POST", URL + "/", headers={"Content-Type": TYPE, "X-Amz-Target": "DynamoDB_20120810.ListTables"}, data=body)
    QueryAuth(KEY, "dynamodb", REGION, expires=60).add_auth(request)
    path = request.url[len(URL) :]
    status, _, content = send(dict(request.headers), body, path=path)
    equal(status, 200)
    assert "TableNames" in json.loads(content)


@check
def a_key_with_other_letters_around_the_header():
    headers = signed("ListTables")
    headers["Authorization"] = headers["Authorization"].replace(", ", ",")
    equal(send(headers)[0], 200)
    equal(send({name.lower(): value for name, value in headers.items()})[0], 200)


@check
def headers_of_answers():
    for body in [b"{}", b'{"Limit":0}']:
        status, headers, content = send(signed("ListTables", body), body)
        equal(headers["content-type"], TYPE)
        equal(int(headers["x-amz-crc32"]), zlib.crc32(content))
        assert len(headers["x-amzn-requestid"]) == 52 and headers["x-amzn-requestid"].isalnum(), headers
        equal(int(headers["content-length"]), len(content))
        assert status == (200 if body == b"{}" else 400)
    plain = signed("ListTables", Content_Type="application/json")
    equal(send(plain)[1]["content-type"], "application/json")


@check
def compression():
    name = table(db)
    db.put_item(TableName=name, Item={"pk": {"S": fresh()}, "fill": {"S": "x" * 20_000}})
    body = json.dumps({"TableName": name, "ConsistentRead": True}).encode()
    _, headers, content = send({**signed("Scan", body), "Accept-Encoding": "gzip"}, body)
    equal(headers["content-encoding"], "gzip")
    equal(int(headers["x-amz-crc32"]), zlib.crc32(content))
    assert json.loads(gzip.decompress(content))["Count"] > 0
    assert "content-encoding" not in send({**signed("Scan", body), "Accept-Encoding": "gzip;q=0"}, body)[1]
    assert "content-encoding" not in send(signed("Scan", body), body)[1]
    packed = gzip.compress(body)
    status, _, content = send({**signed("Scan", packed), "Content-Encoding": "gzip"}, packed)
    assert status == 200 and json.loads(content)["Count"] > 0


@check
def bodies_that_are_no_request():
    for body in [b"", b"null", b"[]", b"7", b'"x"', b"{]", b'{"a":1', b'{"TableName":"\xff"}', b"{" * 100_000, b'{"a":' * 100_000]:
        status, kind, _ = error(signed("GetItem", body), body)
        equal(status, 400)
        assert kind.split("#")[1] in ("SerializationException", "ValidationException"), f"{kind} for {body[:20]}"
    for text in ["a", "YQ", "YQ=", "Y Q==", "YQ==\\n", "-_8="]:
        body = json.dumps({"TableName": table(db), "Item": {"pk": {"S": "a"}, "b": {"B": text}}}).encode()
        equal(error(signed("PutItem", body), body)[0], 400)
    good = base64.b64encode(b"\x00\xff").decode()
    body = json.dumps({"TableName": table(db), "Item": {"pk": {"S": "a"}, "b": {"B": good}}}).encode()
    equal(send(signed("PutItem", body), body)[0], 200)


@check
def a_body_that_is_too_large():
    body = b'{"TableName":"' + b"x" * (16 * 1024 * 1024) + b'"}'
    equal(send(signed("GetItem", body), body)[0], 413)


@check
def health_and_other_paths():
    status, _, content = send({}, None, "GET")
    equal(status, 200)
    assert content.startswith(b"healthy: "), content
    equal(send(signed("ListTables", path="/nowhere"), path="/nowhere")[0], 404)


@check
def cross_origin():
    status, headers, _ = send({"Origin": "http://a.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-amz-target"}, None, "OPTIONS")
    equal((status, headers["access-control-allow-origin"], headers["access-control-max-age"]), (200, "*", "172800"))
    assert "x-amz-target" in headers["access-control-allow-headers"]
    _, headers, _ = send({**signed("ListTables"), "Origin": "http://a.example"})
    equal(headers["access-control-allow-origin"], "*")
    assert "x-amzn-requestid" in headers["access-control-expose-headers"].lower(), headers
    assert "access-control-allow-origin" not in send(signed("ListTables"))[1]


@check
def operations_that_are_not_there():
    absent = [name for name, row in operations_of_the_page().items() if "| no |" in row]
    assert len(absent) > 30, absent
    for name in absent:
        equal(error(signed(name))[:2], (400, SERVICE + "UnknownOperationException"))
    with refused("UnknownOperationException"):
        db.list_backups()


@check
def parameters_that_nobody_knows_are_passed_over():
    body = json.dumps({"TableName": table(db), "Whatever": [1]}).encode()
    equal(send(signed("DescribeTable", body), body)[0], 200)


run()
