//! Leases: rights with a time to live that keys can hang on.

use std::time::Duration;

use cfg_api::etcdserverpb as rpc;
use rpc::lease_client::LeaseClient;
use tonic::{Response, Status};

use crate::store::Repeat;
use crate::{Error, Store};

/// A lease as the store granted or extended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its id.
    pub id: i64,
    /// Its time to live from now, which may be longer than what was asked for.
    pub ttl: Duration,
}

impl Store {
    /// A new lease. An attempt whose answer was lost may leave one more behind, which nothing hangs on.
    ///
    /// # Errors
    /// [`Error::Refused`] when the time is too long.
    pub async fn grant_lease(&self, ttl: Duration) -> Result<Lease, Error> {
        let seconds = i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let answer: rpc::LeaseGrantResponse = self
            .call(Repeat::Freely, |channel| async move {
                LeaseClient::new(channel).lease_grant(rpc::LeaseGrantRequest { ttl: seconds, id: 0 }).await
            })
            .await?;
        match answer.error.as_str() {
            "" => Ok(Lease { id: answer.id, ttl: duration(answer.ttl) }),
            problem => Err(Error::Refused { problem: problem.to_owned() }),
        }
    }

    /// Extends a lease by its whole time.
    ///
    /// # Errors
    /// [`Error::Absent`] when it has ended.
    pub async fn keep_lease(&self, id: i64) -> Result<Lease, Error> {
        let answer: rpc::LeaseKeepAliveResponse = self
            .call(Repeat::Freely, |channel| async move {
                let request = tokio_stream::once(rpc::LeaseKeepAliveRequest { id });
                let mut answers = LeaseClient::new(channel).lease_keep_alive(request).await?.into_inner();
                let answer = answers.message().await?;
                answer
                    .map(Response::new)
                    .ok_or_else(|| Status::unavailable("the stream ended without an answer"))
            })
            .await?;
        match answer.ttl {
            seconds if seconds > 0 => Ok(Lease { id, ttl: duration(seconds) }),
            _ => Err(Error::Absent { place: format!("lease {id:x}") }),
        }
    }

    /// Ends a lease, and deletes what hangs on it. That it has ended already is no failure.
    ///
    /// # Errors
    /// Those of every call.
    pub async fn revoke_lease(&self, id: i64) -> Result<(), Error> {
        let revoked: Result<rpc::LeaseRevokeResponse, Error> = self
            .call(Repeat::Freely, |channel| async move {
                LeaseClient::new(channel).lease_revoke(rpc::LeaseRevokeRequest { id }).await
            })
            .await;
        match revoked {
            Ok(_) | Err(Error::Absent { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn duration(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
