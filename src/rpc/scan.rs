//! A look at a request before it is parsed, which goes as deep as the document does: how deep that is, and whether it
//! defines entities. Whether it is right in all else is for the parser to say.

/// Why a document is not parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// More elements inside each other than allowed.
    Depth,
    /// It has a document type, which may define entities.
    DocumentType,
    /// Something begins and does not end.
    Unfinished,
}

/// Looks at `xml`, in which at most `depth` elements may be inside each other.
pub(super) fn scan(xml: &str, depth: usize) -> Result<(), Refused> {
    let mut rest = xml;
    let mut inside = 0_usize;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let end = if rest.starts_with("<!--") {
            behind(rest, "-->")
        } else if rest.starts_with("<![CDATA[") {
            behind(rest, "]]>")
        } else if rest.starts_with("<!") {
            return Err(Refused::DocumentType);
        } else if rest.starts_with("<?") {
            behind(rest, "?>")
        } else {
            tag_end(rest)
        };
        let end = end.ok_or(Refused::Unfinished)?;
        let tag = &rest[..end];
        if tag.starts_with("</") {
            inside = inside.saturating_sub(1);
        } else if !tag.starts_with("<!") && !tag.starts_with("<?") && !tag.ends_with("/>") {
            inside += 1;
            if inside > depth {
                return Err(Refused::Depth);
            }
        }
        rest = &rest[end..];
    }
    Ok(())
}

fn behind(text: &str, end: &str) -> Option<usize> {
    text.find(end).map(|at| at + end.len())
}

/// Behind the `>` of a tag; one in the value of an attribute does not count.
fn tag_end(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_elements_that_are_open() {
        assert_eq!(scan("<a><b/><b></b><c><d>x</d></c></a>", 3), Ok(()));
        assert_eq!(scan("<a><b/><b></b><c><d>x</d></c></a>", 2), Err(Refused::Depth));
        assert_eq!(scan(&"<a>".repeat(100_000), 64), Err(Refused::Depth));
        assert_eq!(scan(&"<a></a>".repeat(100_000), 1), Ok(()));
        assert_eq!(scan(&"</a>".repeat(10), 1), Ok(()), "the parser says what is wrong with that");
    }

    #[test]
    fn what_is_no_element_does_not_count() {
        assert_eq!(
            scan("<?xml version='1.0'?><!-- <a><a> --><a q='>' r=\"<\"><![CDATA[<b><c>]]></a>", 1),
            Ok(())
        );
    }

    #[test]
    fn entities_and_unfinished_tags_are_refused() {
        for bomb in ["<!DOCTYPE lolz [<!ENTITY a 'b'>]><a>&a;</a>", "<a/><!doctype x>", "<!ENTITY x 'y'>"] {
            assert_eq!(scan(bomb, 9), Err(Refused::DocumentType), "{bomb}");
        }
        for cut in ["<a", "<a b='", "<!-- x", "<![CDATA[ x", "<?xml"] {
            assert_eq!(scan(cut, 9), Err(Refused::Unfinished), "{cut}");
        }
    }
}
