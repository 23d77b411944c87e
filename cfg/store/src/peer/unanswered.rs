//! Why another member gave no answer.

use std::error::Error;

use tonic::{ConnectError, Status};

use crate::machine::Refused;

/// A question to another member without an answer that helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// There was no connection to send it on: it surely did not reach the other member, and can be asked again.
    NeverLeft(Refused),
    /// The other member refused, or what came of the question is not known.
    Refused(Refused),
}

impl From<Status> for Unanswered {
    fn from(status: Status) -> Self {
        let never_left = is_caused_by::<ConnectError>(&status);
        let refused = status.into();
        if never_left { Self::NeverLeft(refused) } else { Self::Refused(refused) }
    }
}

impl From<Unanswered> for Refused {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NeverLeft(refused) | Unanswered::Refused(refused) => refused,
        }
    }
}

/// Whether an error of the type `E` is among the causes. The transport makes a [`ConnectError`] until a connection
/// stands, the handshake of TLS included, and gives it to a request that waited for it; nothing that was received is
/// one.
fn is_caused_by<E: Error + 'static>(status: &Status) -> bool {
    let first = status.source();
    std::iter::successors(first, |&error| error.source()).any(|error| error.is::<E>())
}
