//! Compressed bodies. A request may come in gzip, also of several members, or in deflate; an answer of more than some
//! kilobytes is sent in gzip where the client takes that.
//!
//! The limit of a body is that of what comes out, and it is looked at while unpacking, so that a small body that
//! unpacks to gigabytes takes no more memory than a large one. A body that cannot be unpacked, or is packed in a way that is not known, is
//! answered 500, as the service does.
//!
//! Deflate means the zlib format (RFC 9110 §8.4.1.2); clients that send the bare stream are many, so that is understood, too.

use std::io::{Read, Write};

use actix_web::http::header::{self, HeaderMap};
use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use flate2::write::GzEncoder;

use super::failure::Failure;

/// The largest body of a request, unpacked.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// The smallest answer that is packed is one byte larger.
pub const PACK_BYTES_MIN: usize = 4096;
/// Codings that may be put one on another.
const CODINGS_MAX: usize = 4;

/// The body as it was before it was packed.
///
/// # Errors
/// Where it cannot be unpacked, or is too large then.
pub fn unpack(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Failure> {
    let mut codings: Vec<String> = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| unknown())?;
        codings.extend(text.split(',').map(|coding| coding.trim().to_ascii_lowercase()));
    }
    codings.retain(|coding| !coding.is_empty() && coding != "identity");
    if codings.len() > CODINGS_MAX {
        return Err(unknown());
    }
    // The last one was put on last.
    codings.iter().rev().try_fold(body, |body, coding| match coding.as_str() {
        "gzip" | "x-gzip" => read_whole(MultiGzDecoder::new(&body[..])),
        "deflate" if is_zlib(&body) => read_whole(ZlibDecoder::new(&body[..])),
        "deflate" => read_whole(DeflateDecoder::new(&body[..])),
        _ => Err(unknown()),
    })
}

fn read_whole(reader: impl Read) -> Result<Bytes, Failure> {
    let mut body = Vec::new();
    let read = reader.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut body);
    if body.len() > BODY_BYTES_MAX {
        return Err(too_large());
    }
    read.map_err(|_| Failure::internal("The body cannot be unpacked."))?;
    Ok(Bytes::from(body))
}

/// Whether it begins as the zlib format does (RFC 1950 §2.2).
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [method, flags, ..] => method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31),
        _ => false,
    }
}

fn unknown() -> Failure {
    Failure::internal("The body is packed in a way that is not known.")
}

/// The failure of a body over the limit.
pub fn too_large() -> Failure {
    Failure::too_large(format!("The body is larger than {BODY_BYTES_MAX} bytes."))
}

/// The answer as it is sent, and whether that is gzip.
pub fn pack(headers: &HeaderMap, body: Vec<u8>) -> (Vec<u8>, bool) {
    if body.len() <= PACK_BYTES_MIN || !takes_gzip(headers) {
        return (body, false);
    }
    let mut packer = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    // Memory takes all.
    let packed = packer.write_all(&body).ok().and_then(|()| packer.finish().ok());
    match packed {
        Some(packed) => (packed, true),
        None => (body, false),
    }
}

/// Whether the client would rather have gzip than the plain body (RFC 9110 §12.5.3): it takes gzip, and nothing that it
/// says makes the plain body better.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut identity, mut any) = (None, None, None);
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let mut parameters = part.split(';');
            let coding = parameters.next().unwrap_or_default().trim();
            let quality = match parameters.find_map(quality_text) {
                None => 1000,
                // A weight that makes no sense says that this is not wanted.
                Some(text) => quality(text).unwrap_or(0),
            };
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                gzip = gzip.max(Some(quality));
            } else if coding.eq_ignore_ascii_case("identity") {
                identity = identity.max(Some(quality));
            } else if coding == "*" {
                any = any.max(Some(quality));
            }
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.or(any).unwrap_or(0)
}

/// What follows `q=`.
fn quality_text(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.split_once('=')?;
    name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
}

/// A weight in thousandths (RFC 9110 §12.4.2).
fn quality(text: &str) -> Option<u16> {
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    if digits.len() > 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part: u16 = format!("{digits:0<3}").parse().ok()?;
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            headers.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        packer.write_all(data).unwrap();
        packer.finish().unwrap()
    }

    fn unpacked(coding: &str, body: Vec<u8>) -> Result<Vec<u8>, u16> {
        let unpacked = unpack(&headers(&[(header::CONTENT_ENCODING, coding)]), Bytes::from(body));
        unpacked.map(|body| body.to_vec()).map_err(|failure| failure.status())
    }

    #[test]
    fn bodies_are_unpacked_from_all_that_clients_send() {
        let text = b"{\"TableName\":\"t\"}".to_vec();
        let (first, second) = text.split_at(5);
        assert_eq!(unpacked("identity", text.clone()), Ok(text.clone()));
        assert_eq!(unpacked("GZip", gzip(&text)), Ok(text.clone()));
        assert_eq!(unpacked("gzip", [gzip(first), gzip(second)].concat()), Ok(text.clone()), "two members");
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&text).unwrap();
        let zlib = zlib.finish().unwrap();
        assert_eq!(unpacked("deflate", zlib.clone()), Ok(text.clone()));
        let mut bare = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        bare.write_all(&text).unwrap();
        assert_eq!(unpacked("deflate", bare.finish().unwrap()), Ok(text.clone()));
        assert_eq!(unpacked("deflate, gzip", gzip(&zlib)), Ok(text));
    }

    #[test]
    fn what_cannot_be_unpacked_is_500() {
        assert_eq!(unpacked("br", vec![1, 2, 3]), Err(500));
        assert_eq!(unpacked("gzip", b"{}".to_vec()), Err(500));
        assert_eq!(unpacked("gzip", Vec::new()), Err(500));
        let whole = gzip(b"{}");
        assert_eq!(unpacked("gzip", whole[..whole.len() - 3].to_vec()), Err(500));
        assert_eq!(unpacked("gzip,gzip,gzip,gzip,gzip", Vec::new()), Err(500));
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        assert_eq!(unpacked("gzip", gzip(&vec![b' '; BODY_BYTES_MAX])).map(|body| body.len()), Ok(BODY_BYTES_MAX));
        assert_eq!(unpacked("gzip", gzip(&vec![b' '; BODY_BYTES_MAX + 1])), Err(413));
    }

    #[test]
    fn gzip_is_sent_by_the_rules_of_weights() {
        let takes = |value: &str| takes_gzip(&headers(&[(header::ACCEPT_ENCODING, value)]));
        for yes in [
            "gzip",
            "GZIP",
            "deflate, gzip",
            "gzip;q=0.5",
            "*",
            "gzip;q=0.001",
            "identity;q=0.5, gzip",
            "identity, gzip",
            "x-gzip ; Q=1.000",
        ] {
            assert!(takes(yes), "{yes}");
        }
        for no in [
            "",
            "identity",
            "deflate",
            "gzip;q=0",
            "gzip;q=0.000",
            "*;q=0",
            "gzip;q=0, *",
            "identity, gzip;q=0.9",
            "gzip;q=2",
            "gzip;q=x",
            "identity;q=0",
        ] {
            assert!(!takes(no), "{no}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
        assert!(takes_gzip(&headers(&[(header::ACCEPT_ENCODING, "br"), (header::ACCEPT_ENCODING, "gzip")])));
    }

    #[test]
    fn only_large_answers_are_packed() {
        let headers = headers(&[(header::ACCEPT_ENCODING, "gzip")]);
        assert_eq!(pack(&headers, vec![b'a'; PACK_BYTES_MIN]), (vec![b'a'; PACK_BYTES_MIN], false));
        let (packed, is_packed) = pack(&headers, vec![b'a'; PACK_BYTES_MIN + 1]);
        assert!(is_packed && packed.len() < 100);
        assert_eq!(unpacked("gzip", packed), Ok(vec![b'a'; PACK_BYTES_MIN + 1]));
        assert!(!pack(&HeaderMap::new(), vec![b'a'; 9999]).1);
    }
}
