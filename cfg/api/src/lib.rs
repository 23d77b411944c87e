//! Messages and stubs of etcd's v3 API, made at build time from the definitions in `proto/`. Client and server of the
//! configuration store meet here and nowhere else, so a real etcd can stand on either side.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    clippy::doc_markdown,
    clippy::enum_variant_names,
    reason = "the generated names are etcd's"
)]

/// Keys, values and events.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// Requests, answers and services.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The definitions as an encoded `FileDescriptorSet`, for what works with messages by name.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
