//! Messages that members keep and exchange, made when this is built from `proto/peer.proto`.
#![allow(missing_docs, clippy::doc_markdown, reason = "made from the definitions, which are documented")]

tonic::include_proto!("ovs.store.v1");
