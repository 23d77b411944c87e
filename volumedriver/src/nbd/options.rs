//! What the options of a negotiation mean, and their answers.
//!
//! Framing is done in [`handshake`](super::handshake); here the data of one option is complete.

use super::handshake::{CloseReason, Exports, Negotiated};
use super::protocol::{
    BASE_ALLOCATION, BASE_ALLOCATION_ID, EXPORT_NAME_PADDING, MAX_PAYLOAD, MAX_STRING, MIN_BLOCK,
    OPTION_REPLY_MAGIC, OptionCode, OptionReply, PREFERRED_BLOCK, info, transmission_flag,
};

/// What happens after an option.
#[derive(Debug)]
pub(super) enum Answer {
    Continue,
    Transmission(Negotiated),
    Close(CloseReason),
}

/// Appends one answer to an option, its data given in parts.
pub(super) fn reply(out: &mut Vec<u8>, option: u32, kind: OptionReply, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&(kind as u32).to_be_bytes());
    // Parts are bounded by MAX_STRING each, so the sum fits.
    out.extend_from_slice(&(length as u32).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Bytes of [`reply`] in front of the data.
const REPLY_HEADER: usize = 20;

/// Why an option is refused, and what the client's user may read.
#[derive(Debug, PartialEq, Eq)]
struct Refusal(OptionReply, &'static str);

const NO_EXPORT: Refusal = Refusal(OptionReply::ErrUnknown, "no such export");
const NO_DATA: Refusal = Refusal(OptionReply::ErrInvalid, "this option has no data");
const MALFORMED: Refusal = Refusal(OptionReply::ErrInvalid, "the data's lengths do not fit together");
const NOT_TEXT: Refusal = Refusal(OptionReply::ErrInvalid, "not UTF-8 without NUL");
const TOO_LONG: Refusal = Refusal(OptionReply::ErrTooBig, "longer than 4096 bytes");
const NO_TLS: Refusal = Refusal(OptionReply::ErrUnsupported, "TLS is not served here");
const UNSTRUCTURED: Refusal = Refusal(OptionReply::ErrInvalid, "negotiate structured replies first");
const LONG_LIST: Refusal = Refusal(OptionReply::ErrTooBig, "too many exports to list");

/// What options have changed so far.
#[derive(Debug)]
pub(super) struct Session {
    list_bytes: usize,
    zeroes: bool,
    structured: bool,
    /// The export for which `base:allocation` was chosen last.
    allocation_of: Option<String>,
}

impl Session {
    /// `list_bytes` bounds the answer to `NBD_OPT_LIST`.
    pub(super) fn new(list_bytes: usize) -> Self {
        Self { list_bytes, zeroes: true, structured: false, allocation_of: None }
    }

    /// The client wants no padding behind `NBD_OPT_EXPORT_NAME`.
    pub(super) fn leave_out_zeroes(&mut self) {
        self.zeroes = false;
    }

    pub(super) fn answer(
        &mut self,
        code: OptionCode,
        data: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Answer {
        let result = match code {
            OptionCode::ExportName => return self.export_name(data, exports, out),
            OptionCode::Abort => return Answer::Close(CloseReason::Aborted),
            OptionCode::Go => match self.describe(code, data, exports, out) {
                Ok(negotiated) => {
                    reply(out, code as u32, OptionReply::Ack, &[]);
                    return Answer::Transmission(negotiated);
                }
                Err(refusal) => Err(refusal),
            },
            OptionCode::Info => self.describe(code, data, exports, out).map(|_| ()),
            OptionCode::List => self.list(data, exports, out),
            OptionCode::StartTls => Err(NO_TLS),
            OptionCode::StructuredReply => no_data(data).map(|()| self.structured = true),
            OptionCode::ListMetaContext | OptionCode::SetMetaContext => {
                self.meta_context(code, data, exports, out)
            }
        };
        match result {
            Ok(()) => reply(out, code as u32, OptionReply::Ack, &[]),
            Err(Refusal(kind, message)) => reply(out, code as u32, kind, &[message.as_bytes()]),
        }
        Answer::Continue
    }

    fn export_name(&self, data: &[u8], exports: &dyn Exports, out: &mut Vec<u8>) -> Answer {
        let Some(negotiated) = text(data).and_then(|name| self.resolve(name, exports)).ok() else {
            return Answer::Close(CloseReason::NoSuchExport);
        };
        out.extend_from_slice(&negotiated.size.to_be_bytes());
        out.extend_from_slice(&self.transmission_flags().to_be_bytes());
        if self.zeroes {
            out.extend_from_slice(&[0; EXPORT_NAME_PADDING]);
        }
        Answer::Transmission(negotiated)
    }

    /// `NBD_OPT_INFO` and `NBD_OPT_GO`, without the final acknowledgement.
    fn describe(
        &self,
        code: OptionCode,
        data: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Result<Negotiated, Refusal> {
        let mut fields = Fields(data);
        let name = fields.string()?;
        let wanted = fields.information_requests()?;
        let asked = |kind: u16| wanted.chunks_exact(2).any(|request| request == kind.to_be_bytes());
        let name = text(name)?;
        let negotiated = self.resolve(name, exports)?;

        let mut send = |kind: u16, parts: [&[u8]; 3]| {
            let [first, second, third] = parts;
            reply(out, code as u32, OptionReply::Info, &[&kind.to_be_bytes(), first, second, third]);
        };
        send(info::EXPORT, [&negotiated.size.to_be_bytes(), &self.transmission_flags().to_be_bytes(), &[]]);
        if asked(info::NAME) {
            send(info::NAME, [negotiated.export.as_bytes(), &[], &[]]);
        }
        if asked(info::DESCRIPTION) {
            let description = format!("volume of {} bytes", negotiated.size);
            send(info::DESCRIPTION, [description.as_bytes(), &[], &[]]);
        }
        // Unasked too: a client may use what it understands, and nothing here depends on its doing so.
        send(
            info::BLOCK_SIZE,
            [&MIN_BLOCK.to_be_bytes(), &PREFERRED_BLOCK.to_be_bytes(), &MAX_PAYLOAD.to_be_bytes()],
        );
        Ok(negotiated)
    }

    fn list(&self, data: &[u8], exports: &dyn Exports, out: &mut Vec<u8>) -> Result<(), Refusal> {
        no_data(data)?;
        let names = exports.list();
        let bytes: usize = names.iter().map(|name| REPLY_HEADER + 4 + name.len()).sum();
        if bytes > self.list_bytes {
            return Err(LONG_LIST);
        }
        for name in names.iter().filter(|name| name.len() <= MAX_STRING) {
            let length = (name.len() as u32).to_be_bytes();
            reply(out, OptionCode::List as u32, OptionReply::Server, &[&length, name.as_bytes()]);
        }
        Ok(())
    }

    fn meta_context(
        &mut self,
        code: OptionCode,
        data: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        let set = code == OptionCode::SetMetaContext;
        if set {
            // Also a request that fails replaces what was chosen before.
            self.allocation_of = None;
        }
        if !self.structured {
            return Err(UNSTRUCTURED);
        }
        let mut fields = Fields(data);
        let name = fields.string()?;
        let queries = fields.u32()?;
        // No query means all to a list and none to a choice.
        let mut found = queries == 0 && !set;
        for _ in 0..queries {
            let query = text(fields.string()?)?;
            // A namespace alone stands for all in it, but only in a list.
            found |= query == BASE_ALLOCATION || (query == "base:" && !set);
        }
        fields.end()?;
        let export = self.resolve(text(name)?, exports)?.export;
        if found {
            let id = if set { BASE_ALLOCATION_ID } else { 0 };
            let parts: [&[u8]; 2] = [&id.to_be_bytes(), BASE_ALLOCATION.as_bytes()];
            reply(out, code as u32, OptionReply::MetaContext, &parts);
            if set {
                self.allocation_of = Some(export);
            }
        }
        Ok(())
    }

    /// The export of this name; no name stands for the only export there is.
    fn resolve(&self, name: &str, exports: &dyn Exports) -> Result<Negotiated, Refusal> {
        let export = if name.is_empty() {
            let mut names = exports.list();
            if names.len() > 1 {
                return Err(NO_EXPORT);
            }
            names.pop().ok_or(NO_EXPORT)?
        } else {
            name.to_owned()
        };
        let size = exports.lookup(&export).ok_or(NO_EXPORT)?.size;
        let base_allocation = self.allocation_of.as_ref() == Some(&export);
        Ok(Negotiated { export, size, structured_replies: self.structured, base_allocation })
    }

    fn transmission_flags(&self) -> u16 {
        transmission_flag::ALWAYS | if self.structured { transmission_flag::SEND_DF } else { 0 }
    }
}

fn no_data(data: &[u8]) -> Result<(), Refusal> {
    if data.is_empty() { Ok(()) } else { Err(NO_DATA) }
}

/// A string of the protocol: UTF-8, no NUL, at most [`MAX_STRING`] bytes.
fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    if bytes.len() > MAX_STRING {
        return Err(TOO_LONG);
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => Ok(text),
        _ => Err(NOT_TEXT),
    }
}

/// The fields of an option's data, taken from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(field)
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        let (field, rest) = self.0.split_first_chunk().ok_or(MALFORMED)?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*field))
    }

    /// A length of 32 bits and as many bytes.
    fn string(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    /// A count of 16 bits and as many numbers of 16 bits, which must be the rest.
    fn information_requests(&mut self) -> Result<&'a [u8], Refusal> {
        let (count, rest) = self.0.split_first_chunk().ok_or(MALFORMED)?;
        self.0 = rest;
        let requests = self.take(2 * usize::from(u16::from_be_bytes(*count)))?;
        self.end()?;
        Ok(requests)
    }

    fn end(&self) -> Result<(), Refusal> {
        if self.0.is_empty() { Ok(()) } else { Err(MALFORMED) }
    }
}
