//! The few URL forms that name a configuration.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::Error;

fn refused(url: &str, problem: &str) -> Error {
    Error::Url { url: url.to_owned(), problem: problem.to_owned() }
}

/// Splits off the scheme.
pub(crate) fn scheme(url: &str) -> Result<(&str, &str), Error> {
    url.split_once("://")
        .filter(|(scheme, _)| !scheme.is_empty())
        .ok_or_else(|| refused(url, "is no URL; use file:///DIR with an absolute path"))
}

/// The path of a `file` URL; `rest` is what follows `file://`.
pub(crate) fn file_path(url: &str, rest: &str) -> Result<PathBuf, Error> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err(refused(url, "a file URL has three slashes and an absolute path: file:///DIR"));
    }
    if path.contains(['?', '#']) {
        return Err(refused(url, "a file URL takes no query and no fragment; write ? as %3F and # as %23"));
    }
    let bytes =
        percent_decode(path).ok_or_else(|| refused(url, "% must be followed by two hexadecimal digits"))?;
    if bytes.contains(&0) {
        return Err(refused(url, "a path cannot contain %00"));
    }
    Ok(PathBuf::from(OsString::from_vec(bytes)))
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(decoded)
}
