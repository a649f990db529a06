//! Requests packed into one value: of each a line of JSON, then its body as it came.

use serde::{Deserialize, Serialize};

use crate::db::Millis;

/// What is told of a request beside its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Ours, in the order of arrival.
    pub id: String,
    /// As LINE wrote it.
    pub signature: String,
    pub received_at: Millis,
    /// Bytes of the body.
    length: usize,
}

impl Head {
    pub fn new(id: String, signature: String, received_at: Millis, body: &[u8]) -> Self {
        Self { id, signature, received_at, length: body.len() }
    }
}

/// Appends a request.
pub fn pack(packed: &mut Vec<u8>, head: &Head, body: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::to_writer(&mut *packed, head)?;
    packed.push(b'\n');
    packed.extend_from_slice(body);
    Ok(())
}

/// The requests, up to what cannot be read; then an error.
pub fn unpack(packed: &[u8]) -> impl Iterator<Item = Result<(Head, &[u8]), serde_json::Error>> {
    let mut rest = packed;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let request = read(rest);
        rest = request.as_ref().map(|(_, _, after)| *after).unwrap_or_default();
        Some(request.map(|(head, body, _)| (head, body)))
    })
}

fn read(packed: &[u8]) -> Result<(Head, &[u8], &[u8]), serde_json::Error> {
    let end = packed.iter().position(|byte| *byte == b'\n').unwrap_or(packed.len());
    let (line, rest) = packed.split_at(end);
    let head: Head = serde_json::from_slice(line)?;
    let cut = || serde::de::Error::custom("a body is cut short");
    let (body, after) = rest.get(1..).and_then(|rest| rest.split_at_checked(head.length)).ok_or_else(cut)?;
    Ok((head, body, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: &str, body: &[u8]) -> Head {
        Head::new(id.into(), "sig\"\n=".into(), Millis(7), body)
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let bodies: [&[u8]; 4] = [b"{\"a\":1}\n{\"id\"", b"", b"\n\n\0\xff", b"x"];
        let mut packed = Vec::new();
        for (id, body) in ["a", "b", "c", "d"].iter().zip(bodies) {
            pack(&mut packed, &head(id, body), body).unwrap();
        }
        let read: Vec<(Head, &[u8])> = unpack(&packed).map(Result::unwrap).collect();
        let expected: Vec<(Head, &[u8])> =
            ["a", "b", "c", "d"].iter().zip(bodies).map(|(id, body)| (head(id, body), body)).collect();
        assert_eq!(read, expected);
        assert_eq!(unpack(b"").count(), 0);
    }

    #[test]
    fn what_is_cut_is_an_error_and_the_end() {
        let mut packed = Vec::new();
        pack(&mut packed, &head("a", b"first"), b"first").unwrap();
        let first = packed.len();
        pack(&mut packed, &head("b", b"second"), b"second").unwrap();
        for end in first + 1..packed.len() {
            let read: Vec<bool> = unpack(&packed[..end]).map(|request| request.is_ok()).collect();
            assert_eq!(read, [true, false], "{end}");
        }
    }
}
