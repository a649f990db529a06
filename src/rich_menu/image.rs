//! Type and size of an image, by its first bytes.

/// What LINE takes as a menu's image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Image {
    pub content_type: &'static str,
    pub width: u32,
    pub height: u32,
}

/// Reads the header of a PNG or JPEG; `None` is anything else.
pub(super) fn read(bytes: &[u8]) -> Option<Image> {
    png(bytes).or_else(|| jpeg(bytes))
}

fn png(bytes: &[u8]) -> Option<Image> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n")?.get(4..)?.strip_prefix(b"IHDR")?;
    let number = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
    Some(Image { content_type: "image/png", width: number(0)?, height: number(4)? })
}

/// Walks over the segments to the start of the frame, which holds the size.
fn jpeg(bytes: &[u8]) -> Option<Image> {
    let mut rest = bytes.strip_prefix(b"\xff\xd8")?;
    loop {
        let (marker, after) = (rest.get(..2)?, rest.get(2..)?);
        let [0xff, kind] = marker else { return None };
        // Fill bytes may stand before a marker.
        if *kind == 0xff {
            rest = rest.get(1..)?;
            continue;
        }
        let number = |at: usize| Some(u16::from_be_bytes(after.get(at..at + 2)?.try_into().ok()?));
        if matches!(kind, 0xc0..=0xcf) && !matches!(kind, 0xc4 | 0xc8 | 0xcc) {
            return Some(Image { content_type: "image/jpeg", width: number(5)?.into(), height: number(3)?.into() });
        }
        rest = after.get(usize::from(number(0)?)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_headers() {
        let png = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0, 0, 9, 196, 0, 0, 3, 75, 8, 2, 0, 0, 0]].concat();
        let jpeg = [&b"\xff\xd8\xff\xe0\x00\x04ab"[..], b"\xff\xff\xc2\x00\x11\x08\x03\x4b\x09\xc4\x03"].concat();
        let size = |content_type| Some(Image { content_type, width: 2500, height: 843 });
        assert_eq!(read(&png), size("image/png"));
        assert_eq!(read(&jpeg), size("image/jpeg"));
        for bytes in [&b"GIF89a"[..], b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x00", &png[..20], b"<svg>"] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }
}
