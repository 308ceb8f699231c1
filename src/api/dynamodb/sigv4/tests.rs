//! Signatures against the examples that AWS publishes (documentation and test suite of Signature Version 4), and
//! against what a client may get wrong.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::names::HEADERS_MAX;
use super::signing::Signer;
use super::*;
use crate::domain::TenantName;
use crate::domain::ids::{PrincipalId, TenantId};
use crate::services::ports::Caller;

const SUITE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// 2015-08-30T12:36:00Z.
const THEN: u64 = 1_440_938_160;

fn key(secret: &str) -> AccessKey {
    let caller = Caller {
        principal: PrincipalId::from_bytes([1; 16]),
        name: "ada".to_owned(),
        tenant: Some((TenantId::from_bytes([2; 16]), TenantName::new("acme").unwrap())),
        capabilities: Vec::new(),
    };
    AccessKey::new(Zeroizing::new(secret.to_owned()), caller)
}

fn headers(all: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in all {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// One example of the suite: the headers besides host, date and authorization, and the signature.
struct Example<'a> {
    method: &'a str,
    query: &'a str,
    more: &'a [(&'a str, &'a str)],
    signed: &'a str,
    body: &'a str,
    signature: &'a str,
}

const VANILLA: Example<'_> = Example {
    method: "GET",
    query: "",
    more: &[],
    signed: "host;x-amz-date",
    body: "",
    signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
};

fn verify(example: &Example<'_>) -> Result<(), Failure> {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders={}, Signature={}",
        example.signed, example.signature
    );
    let mut all = example.more.to_vec();
    all.extend([("x-amz-date", "20150830T123600Z"), ("authorization", authorization.as_str())]);
    let headers = headers(&all);
    let head = Head::new(example.method, "/", example.query, "example.amazonaws.com", &headers);
    let parts = Parts::find(&head)?;
    let signed = parts.read()?;
    assert_eq!(signed.access_key_id, "AKIDEXAMPLE");
    signed.check_time(THEN)?;
    signed.verify(&head, &key(SUITE_SECRET), example.body.as_bytes())
}

#[test]
fn the_published_suite_verifies() {
    let unreserved = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let unreserved = format!("{unreserved}={unreserved}");
    let with_two = "host;my-header1;x-amz-date";
    let all = [
        VANILLA,
        Example {
            method: "POST",
            signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ..VANILLA
        },
        Example {
            query: "Param2=value2&Param1=value1",
            signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ..VANILLA
        },
        Example {
            query: &unreserved,
            signature: "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
            ..VANILLA
        },
        Example {
            query: "%E1%88%B4=bar",
            signature: "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
            ..VANILLA
        },
        Example {
            more: &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
            signed: with_two,
            signature: "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
            ..VANILLA
        },
        Example {
            more: &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")],
            signed: "host;my-header1;my-header2;x-amz-date",
            signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
            ..VANILLA
        },
        Example {
            method: "POST",
            more: &[("content-type", "application/x-www-form-urlencoded")],
            signed: "content-type;host;x-amz-date",
            body: "Param1=value1",
            signature: "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ..VANILLA
        },
    ];
    for example in all {
        verify(&example).unwrap_or_else(|failure| panic!("{} {}: {failure:?}", example.method, example.signature));
        let wrong = example.signature.replace('a', "b");
        let (upper, long) = (example.signature.to_uppercase(), format!("{}0", example.signature));
        for bad in [wrong.as_str(), &upper, &long, &long[1..], &long[..63], ""] {
            let refused = verify(&Example { signature: bad, ..example }).unwrap_err();
            assert_eq!(refused.name(), "InvalidSignatureException", "{bad}");
        }
    }
    let other_body = verify(&Example { body: "x", ..VANILLA }).unwrap_err();
    assert_eq!(other_body.name(), "InvalidSignatureException");
}

/// The example of the documentation of presigned URLs, whose body is not signed.
#[test]
fn a_presigned_url_verifies() {
    let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256\
        &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z\
        &X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
        &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let headers = HeaderMap::new();
    let host = "examplebucket.s3.amazonaws.com";
    let head = Head::new("GET", "/test.txt", query, host, &headers);
    let parts = Parts::find(&head).unwrap();
    let signed = parts.read().unwrap();
    let key = key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    signed.verify_payload(&head, &key, b"UNSIGNED-PAYLOAD").unwrap();
    assert!(signed.verify_payload(&head, &key, EMPTY.as_bytes()).is_err());
    const MADE: u64 = 1_369_353_600;
    signed.check_time(MADE + 86_400).unwrap();
    let late = signed.check_time(MADE + 86_401).unwrap_err();
    assert!(late.message().unwrap().starts_with("Signature expired: 20130525T000000Z"), "{late:?}");
}

/// Reads the signature of a request that is right but for what a test changes, and looks at it.
fn read<T>(authorization: &str, more: &[(&str, &str)], look: impl FnOnce(&Signed<'_>) -> T) -> Result<T, Failure> {
    let mut all = more.to_vec();
    if !authorization.is_empty() {
        all.push(("authorization", authorization));
    }
    let headers = headers(&all);
    let parts = Parts::find(&Head::new("POST", "/", "", "h", &headers))?;
    parts.read().map(|signed| look(&signed))
}

const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");

#[test]
fn what_cannot_be_read_is_told_apart() {
    let name =
        |authorization: &str, more: &[(&str, &str)]| read(authorization, more, |_| ()).err().map(|error| error.name());
    assert_eq!(name("", &[DATE]), Some("MissingAuthenticationTokenException"));
    assert_eq!(name("Bearer abc", &[DATE]), Some("MissingAuthenticationTokenException"));
    let tight = "AWS4-HMAC-SHA256 Credential=K/20150830/r/dynamodb/aws4_request,SignedHeaders=host,Signature=00";
    assert_eq!(name(tight, &[DATE]), None, "commas need no spaces");
    assert_eq!(name(tight, &[("date", "Sun, 30 Aug 2015 12:36:00 GMT")]), None);
    for (bad, more) in [
        ("AWS4-HMAC-SHA256", &[DATE][..]),
        ("AWS4-HMAC-SHA512 Credential=a", &[DATE][..]),
        ("AWS4-HMAC-SHA256 Credential=K/20150830/r/dynamodb,SignedHeaders=host,Signature=00", &[DATE][..]),
        ("AWS4-HMAC-SHA256 Credential=K/20150830/r/dynamodb/a/b,SignedHeaders=host,Signature=00", &[DATE][..]),
        ("AWS4-HMAC-SHA256 Credential=K,SignedHeaders=host,Signature=00", &[DATE][..]),
        ("AWS4-HMAC-SHA256 Credential=a,Credential=b,SignedHeaders=host,Signature=00", &[DATE][..]),
        (tight, &[][..]),
        (tight, &[("x-amz-date", "2015-08-30T12:36:00Z")][..]),
        (tight, &[("x-amz-date", "20151330T123600Z")][..]),
    ] {
        assert_eq!(name(bad, more), Some("IncompleteSignatureException"), "{bad}");
    }
    let missing = read("AWS4-HMAC-SHA256 Credential=a", &[], |_| ()).unwrap_err();
    let message = missing.message().unwrap();
    assert!(message.starts_with(
        "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. \
         Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
    ));
    assert!(!message.contains("Credential=a"), "it is told as its hash");
}

#[test]
fn only_a_quarter_of_an_hour_is_forgiven() {
    let header = "AWS4-HMAC-SHA256 Credential=K/20150830/r/dynamodb/aws4_request,SignedHeaders=host,Signature=00";
    let check = |now: u64| read(header, &[DATE], |signed| signed.check_time(now)).unwrap();
    for now in [THEN - 900, THEN, THEN + 900] {
        check(now).unwrap();
    }
    let message = |now: u64| check(now).unwrap_err().message().unwrap().to_owned();
    assert_eq!(
        message(THEN + 901),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123601Z (20150830T125101Z - 15 min.)"
    );
    assert_eq!(
        message(THEN - 901),
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T122059Z + 15 min.)"
    );
}

#[test]
fn a_time_is_signed_in_the_basic_format_however_it_was_sent() {
    assert_eq!(time_of(DATE.1), Some((Cow::Borrowed(DATE.1), THEN)));
    assert_eq!(time_of("Sun, 30 Aug 2015 12:36:00 GMT"), Some((DATE.1.into(), THEN)));
    for (time, seconds) in [("19700101T000000Z", 0), ("20000229T235959Z", 951_868_799)] {
        assert_eq!(time_of(time), Some((Cow::Borrowed(time), seconds)));
        assert_eq!(basic(seconds), time);
    }
    for bad in ["", "19691231T235959Z", "20150229T000000Z", "20150830T123660Z", "20150830t123600Z", "20150830T12360Z"] {
        assert_eq!(time_of(bad), None, "{bad}");
    }
}

#[test]
fn hashes_are_written_and_read_in_lower_case() {
    let hash: [u8; 32] = std::array::from_fn(|at| (at * 8 + 3) as u8);
    let digits = String::from_utf8(hex(hash).to_vec()).unwrap();
    assert_eq!(digits, hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    assert_eq!(unhex(&digits), Some(hash));
    for bad in [digits.to_uppercase(), digits.replace('a', "g"), digits[1..].to_owned(), format!("{digits}00")] {
        assert_eq!(unhex(&bad), None, "{bad}");
    }
}

#[test]
fn the_scope_is_this_day_and_this_service() {
    let check = |scope: &str| {
        let header = format!("AWS4-HMAC-SHA256 Credential=K/{scope},SignedHeaders=host,Signature=00");
        read(&header, &[DATE], |signed| signed.check_scope()).unwrap()
    };
    check("20150830/anywhere/dynamodb/aws4_request").unwrap();
    for bad in [
        "20150831/r/dynamodb/aws4_request",
        "20150830/r/s3/aws4_request",
        "20150830/r/dynamodb/aws5_request",
        "/r/dynamodb/aws4_request",
    ] {
        assert_eq!(check(bad).unwrap_err().name(), "InvalidSignatureException", "{bad}");
    }
}

#[test]
fn a_port_in_the_host_may_be_signed_or_not_and_the_operation_must_be() {
    let body = b"{}";
    let target = ("x-amz-target", "DynamoDB_20120810.ListTables");
    let whole = "host;x-amz-date;x-amz-target";
    let ask = |signed: &str, signed_host: &str, sent_host: &str| {
        let mut headers = headers(&[DATE, target]);
        let key = key("secret");
        let signer = Signer { id: "K", key: &key, at_seconds: THEN, host: signed_host };
        let authorization = signer.authorization(&headers, signed, body);
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&authorization).unwrap());
        let head = Head::new("POST", "/", "", sent_host, &headers);
        Parts::find(&head).unwrap().read().unwrap().verify(&head, &key, body)
    };
    ask(whole, "a.example", "a.example").unwrap();
    ask(whole, "a.example", "a.example:8080").unwrap();
    ask(whole, "a.example:8080", "a.example:8080").unwrap();
    ask(whole, "a.example:443", "a.example").unwrap();
    assert!(ask(whole, "b.example", "a.example").is_err());
    assert!(ask("host;x-amz-date", "a.example", "a.example").unwrap_err().message().unwrap().contains("X-Amz-Target"));
    assert!(ask("x-amz-date;x-amz-target", "a.example", "a.example").unwrap_err().message().unwrap().contains("Host"));
    ask("X-Amz-Target;x-amz-date;Host", "a.example", "a.example").unwrap();
    let many = format!("host;x-amz-target{}", ";x-amz-date".repeat(HEADERS_MAX));
    for bad in [many.as_str(), "host;host;x-amz-target", "host;x-amz-target;host", "Host;host;x-amz-target"] {
        assert_eq!(ask(bad, "a.example", "a.example").unwrap_err().name(), "IncompleteSignatureException", "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_that_is_sent_brings_it_down(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        fuzz_signature(&data);
    }

    #[test]
    fn nearly_good_headers_neither(
        credential in "[A-Z/0-9a-z]{0,40}", signed in "[a-z;:-]{0,40}", signature in "[0-9a-f]{0,70}", query in "[A-Za-z%&=+-]{0,60}"
    ) {
        let text = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}\n{query}");
        fuzz_signature(text.as_bytes());
    }
}
