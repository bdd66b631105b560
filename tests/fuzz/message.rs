//! The inputs of `tests/daemon/corpus` that are messages of HTTP.

/// The message that an input stands for. An input without carriage returns gets them at the ends of
/// its lines, and has none at its own end.
pub(crate) fn message(input: &[u8]) -> Vec<u8> {
    if input.contains(&b'\r') {
        return input.to_vec();
    }
    let lines = input.strip_suffix(b"\n").unwrap_or(input).split(|byte| *byte == b'\n');
    lines.collect::<Vec<_>>().join(&b"\r\n"[..])
}

/// The request that an input stands for: `SIGNED` is a signature, which is wider than a line.
pub(crate) fn request(input: &[u8]) -> String {
    const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=A/20260101/e/datapipeline/aws4_request, \
        SignedHeaders=host, Signature=0";
    String::from_utf8_lossy(&message(input)).replace("SIGNED", SIGNED)
}
