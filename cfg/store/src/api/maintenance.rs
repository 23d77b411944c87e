//! Care of one member.

use std::io::{self, Write};
use std::pin::Pin;

use bytes::Bytes;
use cfg_api::etcdserverpb as pb;
use pb::maintenance_server::Maintenance;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Api, VERSION, later_version};
use crate::machine::{Machine, Refused};
use crate::words::change_request::Change;
use crate::words::command::Command as Kind;
use crate::words::outcome::Outcome as Came;

/// Bytes of a piece of a saved snapshot: etcd's.
const PIECE: usize = 32 << 10;
/// Pieces that wait for the client.
const PIECES: usize = 4;
/// etcd's client wants a length that is a multiple of it, and a checksum behind.
const BLOCK: u64 = 512;

type Pieces = Pin<Box<dyn Stream<Item = Result<pb::SnapshotResponse, Status>> + Send>>;

impl Api {
    pub(super) async fn do_alarm(&self, request: pb::AlarmRequest) -> Result<pb::AlarmResponse, Refused> {
        if request.action == i32::from(pb::alarm_request::AlarmAction::Get) {
            self.node.read_barrier().await?;
            let alarms = self.node.read(Machine::alarms);
            return Ok(pb::AlarmResponse { header: self.header(), alarms });
        }
        let Came::Alarm(mut response) = self.node.propose(Kind::Alarm(request)).await? else {
            return Err(later_version());
        };
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(super) fn status_of(&self) -> pb::StatusResponse {
        let status = self.node.status();
        let (bytes, alarms) = self.node.read(|machine| (machine.bytes(), machine.alarms()));
        let mut errors: Vec<String> = status.broken.into_iter().collect();
        if status.leader.is_none() {
            errors.push("etcdserver: no leader".into());
        }
        errors.extend(alarms.iter().map(|alarm| {
            let kind = alarm.alarm().as_str_name();
            format!("memberID:{} alarm:{kind} ", alarm.member_id)
        }));
        pb::StatusResponse {
            header: self.header(),
            version: VERSION.into(),
            // Entries that are not in a snapshot yet are held beside the state.
            db_size: (bytes + status.log_bytes) as i64,
            db_size_in_use: bytes as i64,
            leader: status.leader.unwrap_or(0),
            raft_index: status.last,
            raft_term: status.term,
            raft_applied_index: status.applied,
            errors,
            is_learner: !status.voters.contains(&self.node.id),
        }
    }
}

/// Sends what is written, piece by piece, to a stream; waits while nobody takes it.
struct Sender<'a> {
    pieces: &'a mpsc::Sender<Result<pb::SnapshotResponse, Status>>,
    header: Option<pb::ResponseHeader>,
    piece: Vec<u8>,
    sum: ring::digest::Context,
    sent: u64,
}

impl Sender<'_> {
    fn send(&mut self) -> io::Result<()> {
        let blob = Bytes::from(std::mem::take(&mut self.piece));
        self.sent += blob.len() as u64;
        // How much is to come is not known: the snapshot is not kept anywhere.
        let response = pb::SnapshotResponse { header: self.header, remaining_bytes: 0, blob };
        self.pieces.blocking_send(Ok(response)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    /// The padding and the checksum that etcd's client looks for.
    fn end(mut self) -> io::Result<()> {
        let length = self.sent + self.piece.len() as u64;
        let padding = vec![0; (length.next_multiple_of(BLOCK) - length) as usize];
        self.write_all(&padding)?;
        let sum = self.sum.clone().finish();
        self.piece.extend_from_slice(sum.as_ref());
        self.send()
    }
}

impl Write for Sender<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sum.update(bytes);
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tonic::async_trait]
impl Maintenance for Api {
    type SnapshotStream = Pieces;

    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        self.check_leader(&request)?;
        Ok(Response::new(self.do_alarm(request.into_inner()).await?))
    }

    async fn status(&self, _: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(self.status_of()))
    }

    /// Nothing lies fallow in memory; what the log keeps too long goes with the next snapshot, so this asks for one.
    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.node.snapshot().await?;
        Ok(Response::new(pb::DefragmentResponse { header: self.header() }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        let hashed = self
            .node
            .read(|machine| machine.store.hash(revision).map(|hash| (hash, machine.store.compacted())));
        let (hash, compact_revision) = hashed.map_err(Refused::from)?;
        Ok(Response::new(pb::HashKvResponse { header: self.header(), hash, compact_revision }))
    }

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Result<Response<Pieces>, Status> {
        let machine = self.node.read(Machine::clone);
        let header = self.header();
        let (pieces, receiver) = mpsc::channel(PIECES);
        tokio::task::spawn_blocking(move || {
            let sum = ring::digest::Context::new(&ring::digest::SHA256);
            let mut sender = Sender { pieces: &pieces, header, piece: Vec::new(), sum, sent: 0 };
            // It fails only when nobody takes it any more.
            let _ = machine.write(&mut sender).and_then(|()| sender.end());
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.check_leader(&request)?;
        self.node.change_members(Change::Lead(request.into_inner().target_id)).await?;
        Ok(Response::new(pb::MoveLeaderResponse { header: self.header() }))
    }
}
