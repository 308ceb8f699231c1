//! Where a request stands in a trace, as the header `traceparent` says it (W3C Trace Context, level 1):
//!
//! ```text
//! 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//! |  |                                |                flags, 8 bits; 1: sampled
//! |  |                                the span that asks, 64 bits, not 0
//! |  the trace, 128 bits, not 0
//! version
//! ```
//!
//! Digits are lower case. Version `ff` is none; a later one than `00` may go on behind another `-`, and what stands there
//! is not looked at. What is wrong in any way counts as not sent, as the standard wants it: the trace begins anew here.
//!
//! Written is version 00 always, with no flag but "sampled". The header `tracestate` is not read: it is for those who pass a
//! request on to others' services, and behind us nobody else follows.

/// The length of a header of version 00.
pub const TRACEPARENT_BYTES: usize = 55;
const FLAG_SAMPLED: u8 = 1;

/// See the module's essay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, not 0.
    pub trace: [u8; 16],
    /// The span under which whatever follows belongs, not 0.
    pub span: [u8; 8],
    /// Whether spans of it are kept.
    pub is_sampled: bool,
}

impl TraceContext {
    /// What the header says; none where it says nothing that counts.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (known, rest) = header.split_at_checked(TRACEPARENT_BYTES)?;
        if [known[2], known[35], known[52]] != [b'-'; 3] {
            return None;
        }
        let [version] = read_hex(&known[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xFF => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let context = Self {
            trace: read_hex(&known[3..35])?,
            span: read_hex(&known[36..52])?,
            is_sampled: read_hex::<1>(&known[53..])?[0] & FLAG_SAMPLED != 0,
        };
        (is_whole && context.trace != [0; 16] && context.span != [0; 8]).then_some(context)
    }

    /// As the header is written.
    pub fn header(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut header = [b'-'; TRACEPARENT_BYTES];
        write_hex(&[0], &mut header[..2]);
        write_hex(&self.trace, &mut header[3..35]);
        write_hex(&self.span, &mut header[36..52]);
        write_hex(&[if self.is_sampled { FLAG_SAMPLED } else { 0 }], &mut header[53..]);
        header
    }
}

/// Writes bytes as hexadecimal digits, twice as many.
pub(super) fn write_hex(bytes: &[u8], digits: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(digits.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

fn read_hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// For the fuzzer: whatever is understood is written and understood as the same.
#[doc(hidden)]
pub fn fuzz_traceparent(data: &[u8]) {
    if let Some(context) = TraceContext::parse(data) {
        let written = context.header();
        assert_eq!(TraceContext::parse(&written), Some(context));
        assert!(written[2..53] == data[2..53], "trace and span go on as they came");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn sampled(header: &str) -> Option<bool> {
        TraceContext::parse(header.as_bytes()).map(|context| context.is_sampled)
    }

    #[test]
    fn the_standards_examples_are_understood() {
        assert_eq!(sampled(SAMPLED), Some(true));
        assert_eq!(sampled(&SAMPLED.replace("-01", "-00")), Some(false));
        assert_eq!(sampled(&SAMPLED.replace("-01", "-ff")), Some(true), "flags that are not known are passed over");
        let later = SAMPLED.replacen("00-", "cc-", 1);
        assert_eq!(sampled(&later), Some(true));
        assert_eq!(sampled(&format!("{later}-what-the-future-will-be-like")), Some(true));
    }

    #[test]
    fn what_the_standard_refuses_counts_as_not_sent() {
        let later = SAMPLED.replacen("00-", "cc-", 1);
        for wrong in [
            String::new(),
            SAMPLED.to_uppercase(),
            format!("{SAMPLED}-more"),
            format!("{later}.more"),
            SAMPLED[..54].to_owned(),
            SAMPLED.replacen("00-", "ff-", 1),
            SAMPLED.replacen("00-", "0-", 1),
            SAMPLED.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            SAMPLED.replace("00f067aa0ba902b7", &"0".repeat(16)),
            SAMPLED.replace("0e4736-00f0", "0e4736_00f0"),
            SAMPLED.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(sampled(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn contexts_come_back(trace in any::<[u8; 16]>().prop_filter("0 is none", |id| *id != [0; 16]),
                              span in any::<[u8; 8]>().prop_filter("0 is none", |id| *id != [0; 8]), is_sampled: bool) {
            let context = TraceContext { trace, span, is_sampled };
            prop_assert_eq!(TraceContext::parse(&context.header()), Some(context));
        }

        #[test]
        fn garbage_is_refused_or_stable(data in proptest::collection::vec(any::<u8>(), 0..80)) {
            fuzz_traceparent(&data);
        }

        #[test]
        fn damaged_headers_are_refused_or_stable(at in 0..TRACEPARENT_BYTES, byte: u8) {
            let mut header = SAMPLED.as_bytes().to_vec();
            header[at] = byte;
            fuzz_traceparent(&header);
        }
    }
}
